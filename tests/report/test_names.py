import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.heads import HEADS
from bisector.report.names import head_label, head_summary, plot_text, shorten


@pytest.mark.parametrize(
    ("head", "label"),
    [
        ("igam:preset=paper", "IGAM (paper)"),
        ("am-softmax", "AM-softmax"),
        ("enhanced-am-softmax", "Enhanced AM-softmax"),
        ("c2am", "C2AM"),
        ("linear-softmax", "Softmax"),
        ("normalized-softmax", "Normalised softmax"),
        ("logit-adjusted", "Logit-adjusted"),
        ("combined-margin", "Combined margin"),
        ("arcface:margin=0.2:sub_centers=3", "ArcFace (margin 0.2, sub centers 3)"),
        ("igam:tau=1", "IGAM (tau 1)"),
        ("igam:tau=None:normalize=False", "IGAM (tau None, normalize False)"),
        ("igam:preset=paper:direction=press", "IGAM (paper, press)"),
        (" ldam ", "LDAM"),
    ],
)
def test_head_labels(head, label):
    assert head_label(head) == label


def test_every_head_of_the_library_is_explained():
    summaries = [head_summary(name) for name in HEADS]
    assert all(summaries)
    assert len(set(summaries)) == len(summaries)


def test_options_that_make_another_head_are_explained():
    paper, ours = head_summary("igam:max_margin=0.2:preset=paper"), head_summary("igam:max_margin=0.2")
    assert "settings of the paper" in paper
    assert "recommended" in ours
    assert "recommended" not in paper
    assert (
        head_summary("igam:tau=1")
        == f"{ours}; plus tau times the logarithm of the class frequencies in training"
    )
    assert head_summary("logit-adjusted:tau=2") == head_summary("logit-adjusted")
    assert head_summary("someone-elses:preset=paper:tau=1") == ""


@settings(deadline=None)
@given(st.text(), st.integers(1, 30))
def test_shortened_text_is_one_short_line(text, limit):
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == " ".join(short.split())
    line = " ".join(text.split())
    assert short == line if len(line) <= limit else line.startswith(short.removesuffix("…"))


@settings(deadline=None)
@given(st.text())
def test_plot_text_reads_as_itself(text):
    escaped = plot_text(text)
    assert "<" not in escaped
    assert ">" not in escaped
    read = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert read == shorten(text, 60)


def test_no_room_at_all():
    with pytest.raises(ArgumentError, match="limit: got 0; expected at least 1"):
        shorten("cat", 0)
