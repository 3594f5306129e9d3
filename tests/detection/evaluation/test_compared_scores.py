import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from bisector.detection.evaluation import evaluate_boxes
from bisector.errors import ArgumentError
from bisector.report.detection_text import format_classes, format_compared, format_scores, score_rows

AP = {"linear": {0: 0.20, 1: 0.23, 2: 0.26}, "igam": {2: 0.29, 0: 0.22, 3: 0.4}}


@pytest.fixture(scope="module")
def scores(random_boxes):
    truth, found = random_boxes(5, "lvis")
    counts = 10 * torch.arange(1, 8)
    return evaluate_boxes(truth, found, train_counts=counts)


@pytest.fixture
def runs(scores):
    return [
        (head, seed, replace(scores, ap=ap, ap75=math.nan if seed == 0 else 0.1))
        for head, of in AP.items()
        for seed, ap in of.items()
    ]


def test_mean_and_deviation_are_numpys(runs):
    for row, name in zip(score_rows(runs), ("linear", "igam"), strict=True):
        values = list(AP[name].values())
        assert (row.head, row.runs) == (name, 3)
        assert row.mean["ap"] == pytest.approx(np.mean(values))
        assert row.deviation["ap"] == pytest.approx(np.std(values, ddof=1))
        assert row.mean["ap75"] == pytest.approx(0.1)  # a run without it does not count


def test_differences_are_of_the_seeds_of_both(runs):
    linear, igam = score_rows(runs)
    differences = [0.22 - 0.20, 0.29 - 0.26]
    found = igam.minus(linear, "ap")
    interval = stats.t.interval(0.95, 1, loc=np.mean(differences), scale=stats.sem(differences))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(differences), *interval))
    assert (found.pairs, igam.minus(linear, "ap75").pairs) == (2, 1)
    assert "Difference from IGAM" in format_compared(runs, "igam")


def test_one_seed_has_no_deviation_and_no_interval(runs):
    linear, igam = score_rows([runs[0], runs[4]])
    found = igam.minus(linear, "ap")
    assert math.isnan(linear.deviation["ap"])
    assert found.mean == pytest.approx(0.02)
    assert math.isnan(found.low)


def test_runs_that_cannot_be_compared_are_told(runs, scores):
    other = replace(scores, class_names=tuple("abcdefg"))
    for wrong, baseline, told in (
        ([*runs, runs[0]], "", "linear with seed 0 twice"),
        (runs, "c2am", "baseline: got 'c2am'; expected one of linear, igam"),
        ([*runs, ("c2am", 1, other)], "", "other classes in c2am with seed 1"),
    ):
        with pytest.raises(ArgumentError, match=told):
            format_compared(wrong, baseline)


def test_the_table_has_a_row_a_head(runs, scores):
    text = format_compared(runs)
    lines = text.splitlines()
    linear = next(line for line in lines if line.startswith("Linear"))
    assert "23.0 ± 3.0" in linear
    assert "30.3 ± 9.1*" in text
    assert "* best mean of its column" in text
    assert "± standard deviation over 3 seeds" in text
    assert "Difference from Linear, seed by seed (95% interval)" in text
    assert "+2.5 (−3.9 to +8.9)" in text
    assert "AP 1-19 boxes" not in lines[0]
    assert max(map(len, lines)) <= 160


def test_runs_of_one_name_are_its_seeds(runs, scores):
    text = format_scores([(head, one) for head, _, one in runs])
    assert "23.0 ± 3.0" in text
    assert "± standard deviation over 3 runs" in text  # nobody said that they are seeds
    assert "Difference" not in text
    assert text.endswith(f"Note: {scores.notes[0]}")


def test_unequal_numbers_of_runs_are_a_column(runs):
    unequal = runs[:-1]
    text = format_compared(unequal)
    for head, count in (("Linear", "3"), ("IGAM", "2")):
        line = next(line for line in text.splitlines() if line.startswith(head))
        assert line.split()[1] == count
    assert "Seeds" in text
    assert "± standard deviation over the seeds of each" in text
    text = format_scores([(head, one) for head, _, one in unequal])
    assert "Runs" in text
    assert "± standard deviation over the runs of each" in text
    assert "seeds" not in text
    assert "Seeds" not in format_compared(runs)


def test_scores_without_numbers_are_words(scores):
    empty = replace(
        scores,
        **dict.fromkeys(
            ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "bias", "bias50", "gap", "r_count"),
            math.nan,
        ),
        ap_by_frequency={"rare": math.nan, "common": math.nan, "frequent": math.nan},
        ap_by_group=dict.fromkeys(scores.ap_by_group, math.nan),
    )
    assert format_scores([("linear", empty)]).startswith("No score has a number")
    assert format_scores([]) == "No scores."


def test_narrow_terminals_have_more_blocks(runs):
    lines = format_compared(runs, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("Linear") for line in lines) > 1


def test_classes_come_hardest_first(scores):
    text = format_classes(scores)
    rows = [line for line in text.splitlines() if line.startswith("class ")]
    assert len(rows) == 6
    ap = [float(row.split()[2]) for row in rows]
    assert ap == sorted(ap)
    assert "1 of 7 classes have no box to be found" in text
    assert "4 more classes" in format_classes(scores, most=2)
    nasty = replace(scores, class_names=("a\x1b[2J", *scores.class_names[1:]))
    assert "\x1b" not in format_classes(nasty)
