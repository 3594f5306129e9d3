import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bisector.metrics.summary import METRICS
from bisector.report.comparison import render_page, write_outputs
from bisector.report.comparison_figures import difference_figures
from bisector.report.differences import (
    DIFFERENCE_METRICS,
    difference_metrics,
    difference_notes,
    difference_rows,
    format_difference,
    format_differences,
    write_differences_csv,
)
from bisector.report.names import head_label
from bisector.statistics.paired import PairedDifference
from bisector.training.results import Comparison

INFO = {info.key: info for info in METRICS}
NAMES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def three(build) -> Comparison:
    return replace(build(NAMES, seeds=3), baseline="am-softmax")


def values(comparison: Comparison, head: str, key: str) -> list[float]:
    return [run.metrics[key] for run in comparison.runs if run.head == head]


def test_rows_hold_the_paired_t_interval_of_every_other_head(three):
    rows = difference_rows(three)
    assert [row.head for row in rows] == [head for head in three.heads if head != "am-softmax"]
    for row in rows:
        assert list(row.differences) == list(DIFFERENCE_METRICS)
        for key, found in row.differences.items():
            own, base = values(three, row.head, key), values(three, "am-softmax", key)
            oracle = stats.ttest_rel(own, base).confidence_interval(0.95)
            assert found.mean == pytest.approx(np.mean(own) - np.mean(base))
            assert (found.low, found.high) == pytest.approx(tuple(oracle))
            assert found.pairs == 3


def test_runs_are_paired_by_seed_and_not_by_place(three):
    backwards = replace(three, runs=three.runs[::-1])
    there = {row.head: row.differences for row in difference_rows(three)}
    back = {row.head: row.differences for row in difference_rows(backwards)}
    for head, differences in there.items():
        for key, found in differences.items():
            assert back[head][key] == pytest.approx(found)


def test_a_seed_that_one_head_lacks_does_not_count(three):
    runs = [run for run in three.runs if (run.head, run.seed) != ("am-softmax", 1)]
    found = difference_rows(replace(three, runs=runs))[0].differences["few"]
    own, base = (np.delete(values(three, head, "few"), 1) for head in ("linear-softmax", "am-softmax"))
    assert found.pairs == 2
    assert found.mean == pytest.approx(np.mean(own - base))


def test_metrics_without_a_number_are_left_out(three):
    runs = [replace(run, metrics=run.metrics | {"few": math.nan}) for run in three.runs]
    gap = replace(three, runs=runs)
    rows = difference_rows(gap)
    assert [info.key for info in difference_metrics(rows)] == ["balanced_accuracy", "worst_class", "bias"]
    assert "Few" not in format_differences(gap)
    assert len(difference_figures(rows)) == 3
    none = replace(three, runs=[replace(run, metrics={}) for run in three.runs])
    assert difference_rows(none) == []
    assert format_differences(none) == ""


def test_the_baseline_is_the_first_head_unless_named(three):
    assert three.baseline_head == "am-softmax"
    assert replace(three, baseline="").baseline_head == three.heads[0]
    assert replace(three, baseline="gone").baseline_head == three.heads[0]
    assert "Differences from Softmax" in format_differences(replace(three, baseline=""))


def test_results_from_before_there_was_a_baseline_are_read(three, tmp_path):
    path = tmp_path / "comparison.json"
    three.write(path)
    assert Comparison.read(path).baseline == "am-softmax"
    old = json.loads(path.read_text(encoding="utf-8"))
    del old["baseline"]
    path.write_text(json.dumps(old), encoding="utf-8")
    assert Comparison.read(path).baseline_head == "linear-softmax"


def test_a_single_head_differs_from_nothing(three):
    alone = replace(three, runs=[run for run in three.runs if run.head == "am-softmax"])
    assert format_differences(alone) == ""
    assert 'id="differences"' not in render_page(alone)


def test_cells():
    assert format_difference(INFO["few"], PairedDifference(-0.0123, -0.05, 0.0286, 3)) == (
        "-1.2",
        "[-5.0, +2.9]",
    )
    assert format_difference(INFO["bias"], PairedDifference(12.34, 10.0, 14.68, 3)) == (
        "+12.3",
        "[+10.0, +14.7]",
    )
    assert format_difference(INFO["few"], PairedDifference(-0.0001, math.nan, math.nan, 1)) == ("+0.0", "")
    assert format_difference(INFO["few"], PairedDifference(math.nan, math.nan, math.nan, 0)) == ("–", "")


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_text_fits_the_terminal_and_holds_everything(three, width):
    text = format_differences(three, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.startswith("Differences from AM-softmax\n")
    for row in difference_rows(three):
        shown = " ".join(" ".join(line.split()) for line in text.splitlines() if line.startswith(row.label))
        for key, found in row.differences.items():
            assert " ".join(format_difference(INFO[key], found)) in shown


def test_the_notes_say_what_the_intervals_are_not(three):
    notes = " ".join(difference_notes(difference_rows(three), "AM-softmax"))
    assert "not that of another test set; with 3 seeds they are wide." in notes
    assert "28 differences are shown, and none is corrected for that" in notes
    two = replace(three, runs=[run for run in three.runs if run.head in {"am-softmax", "c2am"}])
    assert "4 differences are shown" in " ".join(difference_notes(difference_rows(two), "AM-softmax"))


def test_one_seed_has_no_intervals_and_the_text_says_so(build):
    one = build(NAMES, seeds=1)
    text = format_differences(one)
    assert "[" not in text
    assert "One seed: no intervals can be given" in " ".join(text.split())
    page = render_page(one)
    assert "One seed: no intervals can be given" in page
    assert "A filled point" not in page
    assert not any(
        figure.data[0]["error_x"]["visible"] for figure in difference_figures(difference_rows(one))
    )


def test_the_figures_draw_the_numbers_of_the_table(three):
    rows = difference_rows(three)
    for figure, key in zip(difference_figures(rows), DIFFERENCE_METRICS, strict=True):
        (trace,) = figure.data
        scale = INFO[key].scale
        found = [row.differences[key] for row in rows]
        assert trace["x"] == pytest.approx([scale * f.mean for f in found])
        ends = [x + half for x, half in zip(trace["x"], trace["error_x"]["array"], strict=True)]
        assert ends == pytest.approx([scale * f.high for f in found])
        assert trace["marker"]["symbol"] == [
            "circle" if f.low > 0 or f.high < 0 else "circle-open" for f in found
        ]
        assert figure.layout["yaxis"]["ticktext"] == [row.label for row in rows]
        assert figure.layout["xaxis"]["rangemode"] == "tozero"
        better = "below 0 is better" if key == "bias" else "above 0 is better"
        assert better in figure.layout["xaxis"]["title"]["text"]


def test_the_section_escapes_the_names_of_heads(hostile):
    named = replace(hostile, baseline=hostile.heads[2])
    assert named.baseline_head.startswith("</script>")
    section = render_page(named).partition('aria-labelledby="differences"')[2].partition("</section>")[0]
    assert "<script" not in section
    assert "<img" not in section
    assert "&lt;" in section


def test_csv_holds_every_difference_exactly(three, tmp_path):
    path = tmp_path / "differences.csv"
    write_differences_csv(three, path)
    with path.open(newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    assert len(cells) == 7 * 4
    rows = {row.head: row.differences for row in difference_rows(three)}
    for cell in cells:
        found = rows[cell["head"]][cell["metric"]]
        assert (cell["baseline"], cell["level"], cell["seeds"]) == ("am-softmax", "0.95", "3")
        assert [float(cell[key]) for key in ("difference", "low", "high")] == list(found[:3])


def test_csv_leaves_unknown_intervals_empty(build, tmp_path):
    write_differences_csv(build(NAMES, seeds=1), tmp_path / "d.csv")
    with (tmp_path / "d.csv").open(newline="", encoding="utf-8") as file:
        assert all(
            (cell["low"], cell["high"], cell["seeds"]) == ("", "", "1") for cell in csv.DictReader(file)
        )


def test_a_comparison_leaves_its_differences_and_prints_them(three, tmp_path):
    printed = write_outputs(three, tmp_path, width=100)
    assert format_differences(three, 100) in printed
    assert (tmp_path / "differences.csv").is_file()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"Differences from {head_label('am-softmax')}</h2>" in page
