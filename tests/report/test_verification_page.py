import math

import pytest
import torch

from bisector.errors import ArgumentError
from bisector.metrics.verification import verify
from bisector.report.verification import format_verification, render_verification_page, roc_figure
from page_text import Page
from report_cases import HOSTILE, make_verification


def means(runs, of):
    return torch.tensor([of(run) for run in runs], dtype=torch.float64).mul(100)


def test_the_table_holds_means_and_deviations_in_percent(verified):
    lines = format_verification(verified).splitlines()
    (line,) = [line for line in lines if line.startswith("AM-softmax (margin 0.2)")]
    for of in (lambda run: run.eer, lambda run: run.tar[1e-3]):
        values = means(verified["am-softmax:margin=0.2"], of)
        assert f"{values.mean():.2f} ± {values.std():.2f}*" in line
    assert line.count("–") == 1  # 1e-6 cannot be told
    assert "FAR % at the" in lines[0]
    assert lines[1].count("TAR % at FAR") == 3
    assert "840 genuine and 27840 impostor pairs of 240 embeddings in 30 classes" in lines[-2]
    assert "*" not in format_verification({"igam": verified["normalized-softmax"][:1]})


def test_the_curves_are_the_means_of_the_seeds(verified):
    figure = roc_figure(verified)
    assert [trace["name"] for trace in figure.data[:2]] == ["Normalised softmax", "AM-softmax (margin 0.2)"]
    assert "<" not in figure.data[2]["name"]
    for trace, runs in zip(figure.data, verified.values(), strict=True):
        assert len(trace["x"]) == len(trace["y"]) <= 400
        assert all(0 < far <= 1 for far in trace["x"])
        assert trace["y"] == sorted(trace["y"])
        assert (trace["x"][-1], trace["y"][-1]) == (1, 100)
        for far, tar in zip(trace["x"], trace["y"], strict=True):
            steps = [
                max(t for f, t in zip(run.curve_far, run.curve_tar, strict=True) if f <= far) for run in runs
            ]
            assert tar == pytest.approx(100 * sum(steps) / 3)


def test_the_page_holds_the_table_and_names_stay_text(verified):
    page = Page(render_verification_page(verified, title=f"Faces {HOSTILE[0]}", command=HOSTILE[1]))
    assert not any(tag in {"img", "iframe", "object", "b"} for tag, _ in page.tags)
    assert len(page.all("script")) == 3
    assert f"Faces {HOSTILE[0]}" in page.text
    assert len(page.rows) == 4
    for runs, row in zip(verified.values(), page.rows[1:], strict=True):
        assert row[1].startswith(f"{means(runs, lambda run: run.eer).mean():.2f}")
        assert row[4].strip() == "–"
    assert "that is what a user would get" in page.text
    assert "fewer than 1 / FAR impostor pairs" in page.text
    assert [figure["key"] for figure in page.figures] == ["roc"]


def test_the_tiles_say_what_can_be_told():
    near = {
        head: [make_verification(s, 0.9) for s in seeds]
        for head, seeds in (("am-softmax", (0, 1, 2)), ("igam", (3, 4, 5)))
    }
    far = near | {"igam": [make_verification(s, 2.0) for s in range(3)]}
    tiles = [render_verification_page(runs, title="x").partition("</dl>")[0] for runs in (near, far)]
    assert "cannot be told apart" in tiles[0].partition("%")[2].partition("Highest")[0]
    first = tiles[1].partition("EER")[2].partition("Highest")[0]
    assert "AM-softmax" in first
    assert "cannot" not in first


def test_one_run_and_one_that_tells_nothing_are_shown_as_such():
    page = Page(render_verification_page({"igam": [make_verification(0, carried=False)]}, title="One"))
    assert "on new classes the FAR will differ" in page.text
    assert "One seed: how much is chance cannot be told." in page.text
    nothing = verify(torch.ones(1, 2), torch.tensor([0]))
    assert math.isnan(nothing.eer)
    assert "–" in format_verification({"igam": [nothing]})
    assert "without a curve" in render_verification_page({"igam": [nothing]}, title="Nothing")


@pytest.mark.parametrize("call", [format_verification, roc_figure])
@pytest.mark.parametrize("nothing", [{}, {"igam": []}])
def test_no_run_is_an_error(call, nothing):
    with pytest.raises(ArgumentError, match="runs: got a head without a run"):
        call(nothing)
