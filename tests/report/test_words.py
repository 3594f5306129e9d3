import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.heads import HEADS
from bisector.report.words import head_label, head_summary, plot_text, shorten


@pytest.mark.parametrize(
    ("head", "label"),
    [
        ("igam:preset=paper", "IGAM (paper)"),
        ("linear-softmax", "Softmax"),
        ("arcface:margin=0.2:sub_centers=3", "ArcFace (margin 0.2, sub centers 3)"),
        ("igam:tau=None:normalize=False", "IGAM (tau None, normalize False)"),
        (" ldam ", "LDAM"),
        ("someone-elses", "Someone elses"),
    ],
)
def test_heads_have_labels_with_their_options(head, label):
    assert head_label(head) == label


def test_every_head_and_every_option_that_makes_another_head_is_explained():
    summaries = [head_summary(name) for name in HEADS]
    assert all(summaries)
    assert len(set(summaries)) == len(summaries)
    paper, ours = head_summary("igam:max_margin=0.2:preset=paper"), head_summary("igam:max_margin=0.2")
    assert "settings of the paper" in paper
    assert "recommended" in ours
    tau = "; plus tau times the logarithm of the class frequencies in training"
    assert head_summary("igam:tau=1") == ours + tau
    assert head_summary("logit-adjusted:tau=2") == head_summary("logit-adjusted")
    assert head_summary("someone-elses:preset=paper:tau=1") == ""


@given(st.text(), st.integers(1, 30))
def test_shortened_text_is_one_short_line_and_plotly_reads_it_as_itself(text, limit):
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == " ".join(short.split())
    line = " ".join(text.split())
    assert short == line if len(line) <= limit else line.startswith(short.removesuffix("…"))
    escaped = plot_text(text, limit)
    assert not set("<>") & set(escaped)
    assert escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == short


def test_no_room_at_all_is_refused():
    with pytest.raises(ArgumentError, match="limit: got 0; expected at least 1"):
        shorten("cat", 0)
