import math

import numpy as np
import pytest
import torch
from scipy import stats

from bisector.errors import ArgumentError
from bisector.statistics.bootstrap import bootstrap_intervals
from bisector.statistics.relation import relate, weighted_correlations


def pairs(rows, seed, rho=-0.6):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=rows)


def pearson_of(x, y):
    table = torch.tensor(np.column_stack([x, y]))
    return lambda weights: weighted_correlations(weights, table)[:, :1, 1]


@pytest.mark.parametrize(("rows", "seed"), [(12, 1), (30, 2), (60, 3)])
def test_the_interval_is_scipys(rows, seed):
    x, y = pairs(rows, seed)
    found = bootstrap_intervals(pearson_of(x, y), rows, resamples=40_000)[0]
    theirs = stats.bootstrap(
        (x, y),
        lambda x, y, axis=-1: stats.pearsonr(x, y, axis=axis).statistic,
        paired=True,
        vectorized=True,
        n_resamples=40_000,
        method="BCa",
        rng=0,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert found.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.03 * width)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "rho"), [(20, 0.0), (60, -0.6)])
def test_nineteen_of_twenty_intervals_hold_the_truth(rows, rho):
    trials, rng = 250, np.random.default_rng(rows)
    both = (rho + 1) / 2  # correlation of x + z and y + z, of which z held fixed leaves rho
    truths = (both, 6 / math.pi * math.asin(both / 2), rho)
    hits = np.zeros(3)
    for trial in range(trials):
        x, noise, z = rng.normal(size=(3, rows))
        y = rho * x + math.sqrt(1 - rho**2) * noise
        found = relate(*map(torch.tensor, (x + z, y + z, z)), resamples=400, seed=trial)
        held = (found.pearson, found.spearman, found.partial)
        hits += [one.low <= truth <= one.high for truth, one in zip(truths, held, strict=True)]
    assert (hits / trials > 0.9).all(), hits / trials
    assert (hits / trials < 0.985).all(), hits / trials


def test_the_work_is_bounded_and_many_rows_have_fishers_interval():
    for rows in (3_000, 40_000, 300_000):
        x, y = pairs(rows, rows)
        drawn = []

        of = pearson_of(x, y)

        def counted(weights, of=of, drawn=drawn):
            drawn.append(weights.numel())
            return of(weights)

        found = bootstrap_intervals(counted, rows)[0]
        assert sum(drawn) <= 2**24 + 257 * min(rows, 2**24 // 1000) + 65 * rows * (rows > 2**18)
        theirs = stats.pearsonr(x, y).confidence_interval()
        width = theirs.high - theirs.low
        assert found.low == pytest.approx(theirs.low, abs=0.3 * width)
        assert found.high == pytest.approx(theirs.high, abs=0.3 * width)


def test_groups_left_out_give_the_interval_of_rows_left_out(monkeypatch):
    rng = np.random.default_rng(0)
    x = torch.tensor(np.sort(rng.exponential(size=700)))  # sorted: groups must not be alike for that

    def found():
        return bootstrap_intervals(
            lambda weights: (weights @ x.square())[:, None] / 700, 700, resamples=4000
        )[0]

    by_group = found()
    monkeypatch.setattr("bisector.statistics.bootstrap._GROUPS", 700)
    by_row = found()
    width = by_row.high - by_row.low
    assert by_group.low == pytest.approx(by_row.low, abs=0.05 * width)
    assert by_group.high == pytest.approx(by_row.high, abs=0.05 * width)


def test_few_rows_have_no_interval():
    x, y = pairs(7, 0)
    found = bootstrap_intervals(pearson_of(x, y), 7)[0]
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not found.clear


def test_what_most_resamples_leave_undefined_has_no_interval():
    x = np.zeros(10)
    x[0] = 1  # a third of the resamples lack the one row that differs
    found = bootstrap_intervals(pearson_of(x, np.arange(10.0)), 10, resamples=500)[0]
    assert math.isfinite(found.value)
    assert math.isnan(found.low)


def test_a_perfect_line_has_an_interval_of_no_width():
    x = np.arange(12.0)
    found = bootstrap_intervals(pearson_of(x, -2 * x), 12, resamples=500)[0]
    assert (found.value, found.low, found.high) == pytest.approx((-1, -1, -1))
    assert found.clear


@pytest.mark.parametrize("changed", [{"rows": 0}, {"resamples": 10}, {"level": 1.0}])
def test_what_is_not_legal_is_said(changed):
    arguments = {"rows": 9, "resamples": 100, "level": 0.95, **changed}
    with pytest.raises(ArgumentError, match=next(iter(changed))):
        bootstrap_intervals(lambda weights: weights[:, :1], **arguments)
