import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from bisector.errors import ArgumentError
from bisector.metrics.summary import METRICS
from bisector.report.comparison import format_table, known_metrics, write_csv
from bisector.report.summary import best_heads, format_mean, format_value, summary_rows

INFO = {info.key: info for info in METRICS}


def values_of(comparison, head, key):
    return [run.metrics[key] for run in comparison.runs if run.head == head]


def with_metric(comparison, key, value, head=None):
    return replace(
        comparison,
        runs=[
            replace(run, metrics=run.metrics | {key: value}) if head in {None, run.head} else run
            for run in comparison.runs
        ],
    )


def test_rows_are_numpys_mean_and_deviation(comparison):
    rows = summary_rows(comparison)
    assert [row.head for row in rows] == comparison.heads
    for row in rows:
        assert row.runs == 2
        for key in INFO:
            values = values_of(comparison, row.head, key)
            assert row.mean[key] == pytest.approx(np.mean(values))
            assert row.deviation[key] == pytest.approx(np.std(values, ddof=1))


def test_a_run_without_the_metric_does_not_count(comparison):
    first, *others = comparison.runs
    gap = replace(comparison, runs=[replace(first, metrics={"accuracy": math.nan}), *others])
    row = summary_rows(gap)[0]
    assert row.mean["accuracy"] == values_of(comparison, first.head, "accuracy")[1]
    assert math.isnan(row.deviation["accuracy"])


def test_the_best_head_follows_the_direction(comparison):
    rows = summary_rows(comparison)
    by_mean = {key: sorted(rows, key=lambda row: row.mean[key]) for key in INFO}
    assert best_heads(rows, INFO["accuracy"]) == {by_mean["accuracy"][-1].head}
    assert best_heads(rows, INFO["bias"]) == {by_mean["bias"][0].head}
    assert best_heads(rows, INFO["r_count_accuracy"]) == set()


def test_equals_are_all_best_and_nan_never(comparison):
    same = with_metric(comparison, "few", 0.5)
    assert best_heads(summary_rows(same), INFO["few"]) == set(comparison.heads)
    unknown = with_metric(comparison, "few", math.nan)
    assert best_heads(summary_rows(unknown), INFO["few"]) == set()
    one = with_metric(same, "few", math.nan, head="c2am")
    assert best_heads(summary_rows(one), INFO["few"]) == set(comparison.heads) - {"c2am"}


def test_a_single_head_is_best_at_nothing(comparison):
    alone = replace(comparison, runs=[run for run in comparison.runs if run.head == "c2am"])
    assert all(best_heads(summary_rows(alone), info) == set() for info in METRICS)
    text = format_table(alone)
    assert "*" not in text
    assert text.endswith("\n\n± standard deviation over 2 seeds")
    one_seed = replace(alone, runs=alone.runs[:1])
    assert "±" not in format_table(one_seed)
    assert format_table(one_seed) == format_table(one_seed).rstrip()


def test_metrics_that_no_head_has_are_left_out(comparison):
    old = with_metric(comparison, "few", math.nan)
    assert known_metrics(summary_rows(old)) == [info for info in METRICS if info.key != "few"]
    assert "Few" not in format_table(old)
    some = with_metric(comparison, "few", math.nan, head="c2am")
    assert known_metrics(summary_rows(some)) == list(METRICS)


def test_a_mean_with_its_deviation(comparison):
    row = replace(summary_rows(comparison)[0], mean={"few": -0.25}, deviation={"few": 0.125})
    assert format_mean(INFO["few"], row) == "−25.0 ± 12.5"
    assert format_mean(INFO["few"], replace(row, deviation={"few": math.nan})) == "−25.0"
    assert format_mean(INFO["few"], replace(row, mean={"few": math.nan}, deviation={"few": math.nan})) == "–"


def test_values_are_shown_in_their_unit():
    assert format_value(INFO["accuracy"], 0.98765) == "98.8"
    assert format_value(INFO["bias"], 25.44) == "25.4"
    assert format_value(INFO["separability"], 36.0) == "36.0"
    assert format_value(INFO["r_amount_accuracy"], -0.678) == "-0.68"
    assert format_value(INFO["accuracy"], math.nan) == "–"


@pytest.mark.parametrize("width", [60, 100, 160, 400])
def test_the_table_fits_the_terminal_and_holds_everything(comparison, width):
    text = format_table(comparison, width)
    assert max(map(len, text.splitlines())) <= width
    rows = summary_rows(comparison)
    for row in rows:
        lines = [line for line in text.splitlines() if line.startswith(row.label)]
        shown = " ".join(lines)
        for info in METRICS:
            mean, deviation = row.mean[info.key], row.deviation[info.key]
            cell = f" {format_value(info, mean)} ± {format_value(info, deviation)}"
            assert cell + "*" * (row.head in best_heads(rows, info)) in shown
    assert text.endswith("* best mean of its column\n± standard deviation over 2 seeds")


def test_one_seed_has_no_deviation(comparison):
    single = replace(comparison, runs=[run for run in comparison.runs if run.seed == 0])
    assert "±" not in format_table(single)


def test_long_names_are_cut(comparison):
    long = "igam:" + ":".join(f"option_{i}=0.{i}" for i in range(20))
    renamed = replace(comparison, runs=[replace(run, head=long) for run in comparison.runs])
    assert max(map(len, format_table(renamed, 80).splitlines())) <= 80


def test_a_narrow_terminal_is_refused(comparison):
    with pytest.raises(ArgumentError, match="width: got 59; expected at least 60 columns"):
        format_table(comparison, 59)


def test_csv_holds_every_run_exactly(comparison, tmp_path):
    path = tmp_path / "runs.csv"
    gap = with_metric(comparison, "few", math.nan, head="c2am")
    write_csv(gap, path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(gap.runs) == 16
    for row, run in zip(rows, gap.runs, strict=True):
        assert (row.pop("head"), int(row.pop("seed"))) == (run.head, run.seed)
        assert float(row.pop("seconds")) == run.seconds
        assert list(row) == list(INFO)
        for key, cell in row.items():
            assert cell == "" if math.isnan(run.metrics[key]) else float(cell) == run.metrics[key]
