import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bisector.errors import ArgumentError
from bisector.statistics.correlation import partial_correlation
from bisector.statistics.relation import (
    relate,
    weighted_correlations,
    weighted_partial,
    weighted_spearman,
)


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
    assert math.isfinite(found.pearson.value) == math.isfinite(found.spearman.value) == (rows > 2)
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


def test_mistakes_are_named():
    with pytest.raises(ArgumentError, match="given"):
        relate(torch.ones(3), torch.ones(3), torch.ones(4))
    with pytest.raises(ArgumentError, match="infinite"):
        relate(torch.tensor([1.0, torch.inf]), torch.ones(2), torch.ones(2))


@given(
    st.integers(0, 10_000),
    st.integers(5, 60),
    st.sampled_from([0, 3, 1000]),
    st.sampled_from([1.0, 1e6, 1e-6]),
)
def test_weights_are_rows_repeated(seed, rows, levels, unit):
    rng = np.random.default_rng(seed)
    picks = rng.integers(rows, size=(6, rows))
    weights = torch.tensor(np.stack([np.bincount(row, minlength=rows) for row in picks])).double()
    table = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, 3))
    if levels:  # ties of the rows themselves
        table[:, 0] = np.round(table[:, 0] * levels) / levels
    table = table * unit + unit
    linear = weighted_correlations(weights, torch.tensor(table))
    partial = weighted_partial(linear)
    ranked = weighted_spearman(weights, *torch.tensor(table[:, :2].T))
    for k, pick in enumerate(picks):
        x, y, _ = repeated = table[pick].T
        if len(set(x)) < 2 or len(set(y)) < 2:
            assert linear[k, 0, 1].isnan()
            assert ranked[k].isnan()
            continue
        assert ranked[k].item() == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-10)
        if len(set(pick)) > 4 and len(set(x)) > 2:
            np.testing.assert_allclose(linear[k], np.corrcoef(repeated), atol=1e-7)
            expected = partial_correlation(*torch.tensor(repeated)).item()
            assert partial[k].item() == pytest.approx(expected, abs=1e-6)
