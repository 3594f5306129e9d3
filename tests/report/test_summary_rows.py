"""Means over the seeds, the best of them, and differences from a baseline: as tables, text and CSV."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bisector.errors import ArgumentError
from bisector.metrics.summary import FIRST_METRICS, METRICS
from bisector.report.comparison import format_table, render_page, write_csv, write_outputs
from bisector.report.differences import (
    DIFFERENCE_METRICS,
    decision_gains,
    difference_figures,
    difference_notes,
    differences_of,
    format_difference,
    format_differences,
    metrics_of,
    write_differences_csv,
)
from bisector.report.summary import best_heads, known_metrics, mean_cell, metric_value, summary_rows
from bisector.report.words import head_label
from bisector.statistics.paired import PairedDifference
from bisector.training.results import Comparison
from report_cases import with_decisions

INFO = {info.key: info for info in METRICS}


@pytest.fixture(scope="module")
def three(build) -> Comparison:
    return replace(build(seeds=3), baseline="am-softmax")


def values_of(comparison, head, key):
    return [run.metrics[key] for run in comparison.runs if run.head == head]


def with_metric(comparison, key, value, head=None):
    runs = [
        replace(run, metrics=run.metrics | {key: value}) if head in {None, run.head} else run
        for run in comparison.runs
    ]
    return replace(comparison, runs=runs)


def records(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_numpys_mean_and_deviation_over_the_runs_that_have_the_metric(comparison):
    rows = summary_rows(comparison)
    assert [row.head for row in rows] == comparison.heads
    for row in rows:
        assert row.runs == 2
        for key in INFO:
            values = values_of(comparison, row.head, key)
            assert row.mean[key] == pytest.approx(np.mean(values))
            assert row.deviation[key] == pytest.approx(np.std(values, ddof=1))
    first, *others = comparison.runs
    row = summary_rows(replace(comparison, runs=[replace(first, metrics={"accuracy": math.nan}), *others]))[0]
    assert row.mean["accuracy"] == values_of(comparison, first.head, "accuracy")[1]
    assert math.isnan(row.deviation["accuracy"])


def test_the_best_head_follows_the_direction_equals_share_it_and_nan_has_none(comparison):
    rows = summary_rows(comparison)
    by_mean = {key: sorted(rows, key=lambda row: row.mean[key]) for key in INFO}
    assert best_heads(rows, INFO["accuracy"]) == {by_mean["accuracy"][-1].head}
    assert best_heads(rows, INFO["bias"]) == {by_mean["bias"][0].head}
    assert best_heads(rows, INFO["r_count_accuracy"]) == set()
    same = with_metric(comparison, "few", 0.5)
    assert best_heads(summary_rows(same), INFO["few"]) == set(comparison.heads)
    assert best_heads(summary_rows(with_metric(same, "few", math.nan)), INFO["few"]) == set()
    one = with_metric(same, "few", math.nan, head="c2am")
    assert best_heads(summary_rows(one), INFO["few"]) == set(comparison.heads) - {"c2am"}
    assert best_heads(rows[:1], INFO["accuracy"]) == set()


def test_values_are_shown_in_their_unit_and_means_with_their_deviation(comparison):
    assert metric_value(INFO["bias"], 25.44) == "25.4"
    assert metric_value(INFO["r_amount_accuracy"], -0.678) == "−0.68"
    row = replace(summary_rows(comparison)[0], mean={"few": -0.25}, deviation={"few": 0.125})
    assert mean_cell(row, INFO["few"])[:3:2] == ("−25.0", "± 12.5")
    assert mean_cell(replace(row, deviation={"few": math.nan}), INFO["few"])[:3:2] == ("−25.0", "")


@pytest.mark.parametrize("width", [60, 100, 400])
def test_the_table_fits_the_terminal_and_holds_everything(comparison, width):
    text = format_table(comparison, width)
    assert max(map(len, text.splitlines())) <= width
    rows = summary_rows(comparison)
    for row in rows:
        shown = " ".join(line for line in text.splitlines() if line.startswith(row.label))
        for info in FIRST_METRICS:
            cell = " ".join(mean_cell(row, info)[:3:2]).replace("−", "-")
            assert f" {cell}" + "*" * (row.head in best_heads(rows, info)) in shown
    assert text.endswith("* best mean of its column\n± standard deviation over 2 seeds")


def test_the_table_leaves_out_what_nobody_has(comparison):
    old = with_metric(comparison, "few", math.nan)
    assert known_metrics(summary_rows(old), METRICS) == [info for info in METRICS if info.key != "few"]
    assert "Few" not in format_table(old)
    alone = replace(comparison, runs=[run for run in comparison.runs if run.head == "c2am"])
    assert "*" not in format_table(alone)
    assert format_table(alone).endswith("\n\n± standard deviation over 2 seeds")
    once = format_table(replace(alone, runs=alone.runs[:1]))
    assert "±" not in once
    assert once == once.rstrip()


def test_long_names_are_cut_and_a_narrow_terminal_is_refused(comparison):
    long = "igam:" + ":".join(f"option_{i}=0.{i}" for i in range(20))
    renamed = replace(comparison, runs=[replace(run, head=long) for run in comparison.runs])
    assert max(map(len, format_table(renamed, 80).splitlines())) <= 80
    with pytest.raises(ArgumentError, match="width: got 59; expected at least 60 columns"):
        format_table(comparison, 59)


def test_csv_holds_every_run_exactly(comparison, tmp_path):
    gap = with_metric(comparison, "few", math.nan, head="c2am")
    write_csv(gap, tmp_path / "runs.csv")
    for row, run in zip(records(tmp_path / "runs.csv"), gap.runs, strict=True):
        assert (row.pop("head"), int(row.pop("seed"))) == (run.head, run.seed)
        assert float(row.pop("seconds")) == run.seconds
        assert list(row) == list(INFO)
        for key, cell in row.items():
            assert cell == "" if math.isnan(run.metrics[key]) else float(cell) == run.metrics[key]


def test_differences_are_the_paired_t_intervals_of_every_other_head_by_seed(three):
    found = differences_of(three)
    assert list(found) == [head for head in three.heads if head != "am-softmax"]
    for head, own in found.items():
        assert list(own) == list(DIFFERENCE_METRICS)
        for key, one in own.items():
            values, base = values_of(three, head, key), values_of(three, "am-softmax", key)
            oracle = stats.ttest_rel(values, base).confidence_interval(0.95)
            assert one.mean == pytest.approx(np.mean(values) - np.mean(base))
            assert (one.low, one.high) == pytest.approx(tuple(oracle))
            assert one.pairs == 3
    back = differences_of(replace(three, runs=three.runs[::-1]))  # by the seed, and not by the place
    for head, own in found.items():
        for key, one in own.items():
            assert back[head][key] == pytest.approx(one)


def test_a_seed_that_one_head_lacks_does_not_count(three):
    runs = [run for run in three.runs if (run.head, run.seed) != ("am-softmax", 1)]
    found = differences_of(replace(three, runs=runs))["linear-softmax"]["few"]
    own, base = (np.delete(values_of(three, head, "few"), 1) for head in ("linear-softmax", "am-softmax"))
    assert (found.pairs, found.mean) == (2, pytest.approx(np.mean(own - base)))


def test_metrics_and_heads_without_a_number_are_left_out(three):
    gap = with_metric(three, "few", math.nan)
    found = differences_of(gap)
    assert [info.key for info in metrics_of(found)] == ["balanced_accuracy", "worst_class", "spread"]
    assert "Few" not in format_differences(gap)
    assert len(difference_figures(found)) == 3
    none = replace(three, runs=[replace(run, metrics={}) for run in three.runs])
    alone = replace(three, runs=[run for run in three.runs if run.head == "am-softmax"])
    for nothing in (none, alone):
        assert differences_of(nothing) == {}
        assert format_differences(nothing) == ""
        assert 'id="differences"' not in render_page(nothing)


def test_the_baseline_is_the_first_head_unless_named_and_older_results_have_none(three, tmp_path):
    assert three.baseline_head == "am-softmax"
    for name in ("", "gone"):
        assert replace(three, baseline=name).baseline_head == three.heads[0]
    assert "Differences from Softmax" in format_differences(replace(three, baseline=""))
    path = tmp_path / "comparison.json"
    three.write(path)
    assert Comparison.read(path).baseline == "am-softmax"
    old = json.loads(path.read_text(encoding="utf-8"))
    del old["baseline"]
    path.write_text(json.dumps(old), encoding="utf-8")
    assert Comparison.read(path).baseline_head == "linear-softmax"


def test_a_difference_has_a_sign_and_its_interval_where_there_is_one():
    nan = math.nan
    for key, found, told in (
        ("few", (-0.0123, -0.05, 0.0286, 3), ("−1.2", "[−5.0, +2.9]")),
        ("bias", (12.34, 10.0, 14.68, 3), ("+12.3", "[+10.0, +14.7]")),
        ("few", (-0.0001, nan, nan, 1), ("+0.0", "")),
        ("few", (nan, nan, nan, 0), ("–", "")),
    ):
        assert format_difference(INFO[key], PairedDifference(*found)) == told


def test_what_a_decision_changes_is_paired_with_the_same_head_without_it(three, tmp_path):
    heads = ["am-softmax", "igam:max_margin=0.3:direction=press"]
    found = with_decisions(three, *heads)
    gains = decision_gains(found)
    assert list(gains) == [f"{head} + geometry" for head in heads]
    for head in heads:
        for key, one in gains[f"{head} + geometry"].items():
            values, base = (values_of(found, name, key) for name in (f"{head} + geometry", head))
            oracle = stats.ttest_rel(values, base).confidence_interval(0.95)
            assert one.mean == pytest.approx(np.mean(values) - np.mean(base))
            assert (one.low, one.high) == pytest.approx(tuple(oracle))
    write_differences_csv(found, tmp_path / "differences.csv")
    rows = records(tmp_path / "differences.csv")
    assert [row["baseline"] for row in rows if row["baseline"] != "am-softmax"] == [heads[1]] * 4
    page, text = render_page(found), format_differences(found, 80)
    assert f"{len(three.heads)} heads compared" in page
    for told in (page, text):
        assert "What the decisions change" in told
        assert "Each head with its decision less the same networks without it" in " ".join(told.split())
    assert "AM-softmax + geometry" in text
    assert "… + geometry" in text  # the end is never cut
    assert max(map(len, text.splitlines())) <= 80
    # Only the amounts of what was trained are drawn and counted.
    assert page.count("amount-accuracy-") == render_page(three).count("amount-accuracy-")
    # Where the differences from the baseline are these already, they are not shown twice.
    alone = replace(three, runs=[run for run in three.runs if run.head == "am-softmax"])
    one = with_decisions(alone, "am-softmax")
    assert decision_gains(one) == {}
    assert list(differences_of(one)) == ["am-softmax + geometry"]
    assert decision_gains(three) == {}


@pytest.mark.parametrize("width", [60, 160])
def test_the_text_of_differences_fits_the_terminal_and_holds_everything(three, width):
    text = format_differences(three, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.startswith("Differences from AM-softmax\n")
    for head, own in differences_of(three).items():
        lines = (line for line in text.splitlines() if line.startswith(head_label(head)))
        shown = " ".join(" ".join(line.split()) for line in lines)
        for key, one in own.items():
            assert " ".join(format_difference(INFO[key], one)).replace("−", "-") in shown


def test_the_notes_say_what_the_intervals_are_not(three, build):
    notes = " ".join(difference_notes(differences_of(three), "AM-softmax"))
    assert "not that of another test set; with 3 seeds they are wide." in notes
    assert "28 differences are shown, and none is corrected for that" in notes
    one = build(seeds=1)
    text, page = format_differences(one), render_page(one)
    assert "[" not in text
    for told in (" ".join(text.split()), page):
        assert "One seed: no intervals can be given" in told
    assert "A filled point" not in page
    figures = difference_figures(differences_of(one))
    assert not any(figure.data[0]["error_x"]["visible"] for figure in figures)


def test_the_figures_draw_the_numbers_of_the_table(three):
    differences = differences_of(three)
    for figure, key in zip(difference_figures(differences), DIFFERENCE_METRICS, strict=True):
        (trace,) = figure.data
        scale, found = INFO[key].scale, [own[key] for own in differences.values()]
        assert trace["x"] == pytest.approx([scale * f.mean for f in found])
        ends = [x + half for x, half in zip(trace["x"], trace["error_x"]["array"], strict=True)]
        assert ends == pytest.approx([scale * f.high for f in found])
        clear = [f.low > 0 or f.high < 0 for f in found]
        assert trace["marker"]["symbol"] == ["circle" if one else "circle-open" for one in clear]
        assert figure.layout["yaxis"]["ticktext"] == list(map(head_label, differences))
        better = "below 0 is better" if key == "spread" else "above 0 is better"
        assert better in figure.layout["xaxis"]["title"]["text"]


def test_csv_holds_every_difference_exactly_and_unknown_intervals_are_empty(three, build, tmp_path):
    path = tmp_path / "differences.csv"
    write_differences_csv(three, path)
    found, cells = differences_of(three), records(path)
    assert len(cells) == 7 * 4
    for cell in cells:
        one = found[cell["head"]][cell["metric"]]
        assert (cell["baseline"], cell["level"], cell["seeds"]) == ("am-softmax", "0.95", "3")
        assert [float(cell[key]) for key in ("difference", "low", "high")] == list(one[:3])
    write_differences_csv(build(seeds=1), path)
    assert all((cell["low"], cell["high"], cell["seeds"]) == ("", "", "1") for cell in records(path))


def test_a_comparison_leaves_its_differences_and_prints_them(three, tmp_path):
    printed = write_outputs(three, tmp_path, width=100)
    assert format_differences(three, 100) in printed
    assert (tmp_path / "differences.csv").is_file()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"Differences from {head_label('am-softmax')}</h2>" in page
