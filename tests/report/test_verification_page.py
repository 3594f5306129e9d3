import json
import math
import re
from html.parser import HTMLParser

import pytest
import torch

from bisector.errors import ArgumentError
from bisector.metrics.verification import Verification, verify
from bisector.report.verification import (
    format_verification,
    render_verification_page,
    roc_figure,
)

HOSTILE = "<img src=x onerror=window.pwned=1>"


class Words(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.said = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in {"script", "style"}:
            return
        self.said += data
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data


def found(seed: int, noise: float, carried: bool = True) -> Verification:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(30).repeat_interleave(8)
    x = torch.randn(30, 16, generator=generator)[labels]
    x = x + noise * torch.randn(x.shape, generator=generator)
    return verify(x, labels, fars=[1e-2, 1e-3, 1e-6], thresholds={1e-2: 0.6} if carried else None)


@pytest.fixture(scope="module")
def runs() -> dict[str, list[Verification]]:
    return {
        "normalized-softmax": [found(seed, 1.2) for seed in range(3)],
        "am-softmax:margin=0.2": [found(seed, 0.9) for seed in range(3)],
        HOSTILE: [found(seed, 1.5) for seed in range(3)],
    }


def test_the_table_holds_means_and_deviations_in_percent(runs):
    lines = format_verification(runs).splitlines()
    (line,) = [line for line in lines if line.startswith("AM-softmax (margin 0.2)")]
    eers = torch.tensor([run.eer for run in runs["am-softmax:margin=0.2"]], dtype=torch.float64)
    assert f"{100 * eers.mean():.2f} ± {100 * eers.std():.2f}*" in line
    tars = torch.tensor([run.tar[1e-3] for run in runs["am-softmax:margin=0.2"]], dtype=torch.float64)
    assert f"{100 * tars.mean():.2f} ± {100 * tars.std():.2f}*" in line
    assert line.count("–") == 1  # 1e-6 cannot be told
    assert "FAR % at the" in lines[0]
    assert lines[1].count("TAR % at FAR") == 3
    assert "840 genuine and 27840 impostor pairs of 240 embeddings in 30 classes" in lines[-2]


def test_one_head_alone_has_no_best(runs):
    assert "*" not in format_verification({"igam": runs["normalized-softmax"][:1]})


def test_the_curves_are_the_means_of_the_seeds(runs):
    figure = roc_figure(runs)
    assert [trace["name"] for trace in figure.data[:2]] == ["Normalised softmax", "AM-softmax (margin 0.2)"]
    assert "<" not in figure.data[2]["name"]
    for trace, verifications in zip(figure.data, runs.values(), strict=True):
        assert len(trace["x"]) == len(trace["y"]) <= 400
        assert all(0 < far <= 1 for far in trace["x"])
        assert trace["y"] == sorted(trace["y"])
        assert (trace["x"][-1], trace["y"][-1]) == (1, 100)
        for far, tar in zip(trace["x"], trace["y"], strict=True):
            steps = [
                max(t for f, t in zip(run.curve_far, run.curve_tar, strict=True) if f <= far)
                for run in verifications
            ]
            assert tar == pytest.approx(100 * sum(steps) / 3)


def test_the_page_holds_the_table_and_executes_nothing_from_outside(runs):
    text = render_verification_page(runs, title=f"Faces {HOSTILE}", command=f"bisector train {HOSTILE}")
    page = Words(text)
    assert "<img" not in text.split("</main>")[0]
    assert not any(tag in {"img", "iframe", "object", "b"} for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert f"Faces {HOSTILE}" in page.said
    assert len(page.rows) == 4
    for head, row in zip(runs, page.rows[1:], strict=True):
        eers = torch.tensor([run.eer for run in runs[head]], dtype=torch.float64)
        assert row[1].startswith(f"{100 * eers.mean():.2f}")
        assert row[4] == "–"
    assert "that is what a user would get" in page.said
    assert "fewer than 1 / FAR impostor pairs" in page.said
    stored = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    assert stored is not None
    assert [figure["key"] for figure in json.loads(stored[1])["figures"]] == ["roc"]


def test_the_tiles_say_what_can_be_name_leaders():
    near = {"am-softmax": [found(s, 0.9) for s in range(3)], "igam": [found(s + 3, 0.9) for s in range(3)]}
    far = {"am-softmax": [found(s, 0.9) for s in range(3)], "igam": [found(s, 2.0) for s in range(3)]}
    tiles = [
        Words(render_verification_page(runs, title="x").partition("</dl>")[0]).said for runs in (near, far)
    ]
    assert "cannot be told apart" in tiles[0].partition("%")[2].partition("Highest")[0]
    assert tiles[1].partition("%")[2].startswith("AM-softmax")
    assert "cannot" not in tiles[1].partition("Highest")[0]


def test_a_page_of_one_run_without_thresholds_from_elsewhere_says_so():
    page = Words(render_verification_page({"igam": [found(0, 1.0, carried=False)]}, title="One"))
    assert "on new classes the FAR will differ" in page.said
    assert "One seed: how much is chance cannot be told." in page.said


def test_a_run_that_tells_nothing_is_shown_as_such():
    nothing = verify(torch.ones(1, 2), torch.tensor([0]))
    assert math.isnan(nothing.eer)
    assert "–" in format_verification({"igam": [nothing]})
    assert "Nothing" in render_verification_page({"igam": [nothing]}, title="Nothing")


@pytest.mark.parametrize("call", [format_verification, roc_figure])
@pytest.mark.parametrize("nothing", [{}, {"igam": []}])
def test_no_run_is_an_error(call, nothing):
    with pytest.raises(ArgumentError, match="runs: got a head without a run"):
        call(nothing)
