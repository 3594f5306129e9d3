import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bisector.report.readings import _rank_correlation, _share_of_count, amount_answer, size_notes
from bisector.report.summary import SummaryRow

KEY = "r_amount_accuracy_given_count"


def rows(means, deviation=0.1, runs=3):
    return [
        SummaryRow(head=str(i), label=str(i), runs=runs, mean={KEY: mean}, deviation={KEY: deviation})
        for i, mean in enumerate(means)
    ]


def test_few_classes_let_nothing_be_concluded():
    answer = amount_answer(rows([-0.9, -0.8, 0.1]), 10)
    assert answer.startswith("Nothing can be concluded from 10 classes.")
    assert "for 2 of 3 heads (2 of them negative)" in answer
    assert amount_answer(rows([-0.9]), 4) == "Nothing can be concluded from 4 classes."


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ([-0.6, -0.7, 0.0], "For most heads, yes:"),
        ([-0.6, 0.0, 0.0], "For some heads only."),
        ([-0.6, -0.6, 0.0, 0.0], "For some heads only."),
        ([0.6, 0.6, 0.6], "Not here, beyond what the counts say."),
        ([-0.1, 0.1, 0.0], "Not here, beyond what the counts say."),
    ],
)
def test_many_classes_give_a_verdict(means, verdict):
    assert amount_answer(rows(means), 100).startswith(verdict)


def test_a_correlation_within_its_deviation_does_not_count():
    assert "beyond ±0.20 for 1 of 2 heads" in amount_answer(rows([-0.6, -0.5], deviation=0.55), 100)
    assert "for 0 of 1 head;" in amount_answer(rows([-0.19], deviation=0.01), 100)
    assert "for 0 of 1 head;" in amount_answer(rows([-0.6], deviation=math.nan), 100)


def test_one_seed_has_no_deviation():
    answer = amount_answer(rows([-0.6, -0.6], deviation=math.nan, runs=1), 100)
    assert answer.startswith("For most heads, yes:")
    assert "deviation" not in answer
    assert "±0.20 for 2 of 2 heads (2 of them negative)" in answer


def test_no_correlation_no_answer():
    assert amount_answer(rows([math.nan, math.nan]), 100) == ""


@pytest.mark.parametrize("classes", [10, 30, 200])
def test_the_limit_is_what_chance_reaches_in_one_case_of_twenty(classes):
    # Student's distribution of a partial correlation with one quantity held fixed.
    t = stats.t.ppf(0.975, classes - 3)
    exact = t / math.sqrt(classes - 3 + t**2)
    stated = float(amount_answer(rows([0.0]), classes).partition("±")[2].partition(" ")[0])
    assert stated == pytest.approx(exact, abs=0.011)


def with_amounts(comparison, amount):
    """The last refresh of every head that measured is `amount(count, class, seed)`."""
    return replace(
        comparison,
        runs=[
            replace(
                run,
                amount_history=[
                    *run.amount_history[:-1],
                    [amount(n, c, run.seed) for c, n in enumerate(run.class_count)],
                ],
            )
            if run.amount_history
            else run
            for run in comparison.runs
        ],
    )


def test_amounts_that_are_any_function_of_the_count_are_told(comparison):
    # Like the floor of the poster: falls to 0 and rises again, so that no order of the counts shows it.
    told = size_notes(
        with_amounts(comparison, lambda n, c, seed: 80 * (1 - math.sqrt(20 / n)) ** 2 + 0.01 * seed)
    )
    assert [note.partition(":")[0] for note in told] == ["IGAM (paper)", "IGAM (max margin 0.3, press)"]
    assert all("whichever classes they are" in note for note in told)


def test_amounts_of_the_classes_are_not_told(comparison):
    assert size_notes(with_amounts(comparison, lambda n, c, seed: 3.0 * c + 0.01 * seed)) == []
    assert size_notes(with_amounts(comparison, lambda n, c, seed: 5.0)) == []
    rng = np.random.default_rng(0)
    assert size_notes(with_amounts(comparison, lambda n, c, seed: float(rng.normal()))) == []


def test_where_the_seeds_have_the_same_tail_only_the_order_counts(build):
    comparison = build([str(i) for i in range(10)], reshuffled=False)
    falling = size_notes(with_amounts(comparison, lambda n, c, seed: -n))
    assert all("the fewer training instances a class has, the larger its amount" in note for note in falling)
    rising = size_notes(with_amounts(comparison, lambda n, c, seed: n if n > 2 else math.nan))
    assert all("the more training instances" in note for note in rising)
    assert len(falling) == len(rising) == 2
    # Classes and counts go together in every seed: neither can be made out.
    assert size_notes(with_amounts(comparison, lambda n, c, seed: (c * 7) % 10)) == []


def test_a_single_refresh_says_nothing(comparison):
    told = with_amounts(comparison, lambda n, c, seed: n)
    short = [replace(run, amount_history=run.amount_history[-1:]) for run in told.runs]
    assert size_notes(replace(told, runs=short)) == []


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(1)
    for _ in range(20):
        counts, amounts = rng.integers(1, 6, 12), rng.integers(0, 5, 12)
        found = _rank_correlation(list(zip(counts.tolist(), amounts.tolist(), strict=True)))
        assert found == pytest.approx(stats.spearmanr(counts, amounts).statistic)


def test_the_share_of_the_count_is_nothing_by_chance():
    rng = np.random.default_rng(2)
    shares = [
        _share_of_count([(n % 10, float(a)) for n, a in enumerate(rng.normal(size=30))]) for _ in range(400)
    ]
    assert np.mean(shares) == pytest.approx(0, abs=0.05)
    assert max(shares) < 0.9
    assert _share_of_count([(n % 10, float(n % 10) ** 2) for n in range(30)]) == pytest.approx(1)


def test_counts_that_hardly_repeat_say_nothing():
    assert math.isnan(_share_of_count([(n, float(n)) for n in range(100)]))
    pairs = [(n, float(n)) for n in range(10)] + [(n, float(n)) for n in range(5)]
    assert math.isnan(_share_of_count(pairs[:14]))
    assert _share_of_count(pairs) == pytest.approx(1)
    assert math.isnan(_rank_correlation([(1, 1.0), (2, 2.0), (3, 3.0)]))
