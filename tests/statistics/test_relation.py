import math

import numpy as np
import pytest
import torch
from scipy import stats

from bisector.errors import ArgumentError
from bisector.statistics.correlation import partial_correlation
from bisector.statistics.relation import relate


def columns(rows, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.tensor(v) for v in (rng.normal(size=(rows, 3)) @ rng.normal(size=(3, 3))).T]


def test_values_are_scipys_and_intervals_are_around_them():
    x, y, z = columns(60)
    found = relate(x, y, z, resamples=500)
    assert found.rows == 60
    assert found.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.partial.value == partial_correlation(x, y, z).item()
    for one in (found.pearson, found.spearman, found.partial):
        assert -1 <= one.low < one.value < one.high <= 1


def test_the_interval_of_many_rows_is_fishers():
    rng = np.random.default_rng(5)
    x, z = rng.normal(size=(2, 2000))
    y = 0.5 * x + rng.normal(size=2000)
    found = relate(*(torch.tensor(v) for v in (x, y, z)), resamples=4000).pearson
    theirs = stats.pearsonr(x, y).confidence_interval()
    assert found.low == pytest.approx(theirs.low, abs=0.006)
    assert found.high == pytest.approx(theirs.high, abs=0.006)


def test_a_row_with_a_nan_is_in_none_of_the_three():
    x, y, z = columns(30)
    expected = relate(x[3:], y[3:], z[3:], resamples=200)
    x[0] = y[1] = z[2] = torch.nan
    assert relate(x, y, z, resamples=200) == expected


def test_equal_counts_hold_nothing_fixed():
    x, y, _ = columns(20)
    found = relate(x, y, torch.full((20,), math.log(50)), resamples=300)
    assert found.partial.value == pytest.approx(found.pearson.value)
    assert found.partial.low == pytest.approx(found.pearson.low)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7])
def test_few_rows_are_told_without_an_interval(rows):
    x, y, z = (v[:rows] for v in columns(8))
    found = relate(x, y, z)
    assert found.rows == rows
    assert math.isfinite(found.pearson.value) == (rows > 2)
    assert math.isfinite(found.partial.value) == (rows > 3)
    assert all(math.isnan(one.low) for one in (found.pearson, found.spearman, found.partial))


def test_what_does_not_vary_correlates_with_nothing():
    _, y, z = columns(20)
    found = relate(torch.full((20,), 0.1), y, z)
    assert all(math.isnan(one.value) for one in (found.pearson, found.spearman, found.partial))
    x = relate(y, z, 2 * y + 3, resamples=200)  # what is held fixed leaves nothing of y
    assert math.isfinite(x.pearson.low)
    assert math.isnan(x.partial.value)
    assert math.isnan(x.partial.low)


def test_shapes_are_checked():
    with pytest.raises(ArgumentError, match="given"):
        relate(torch.ones(3), torch.ones(3), torch.ones(4))
