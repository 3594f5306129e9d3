import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bisector.errors import ArgumentError
from bisector.statistics.regression import nested_regression


def r2(score, *columns):
    design = np.column_stack([np.ones(len(score)), *columns])
    residual = score - design @ np.linalg.lstsq(design, score, rcond=None)[0]
    return 1 - residual @ residual / ((score - score.mean()) ** 2).sum()


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 60))
def test_both_fits_are_numpys_and_the_test_is_scipys(seed, width, extra):
    rows = width + 4 + extra
    rng = np.random.default_rng(seed)
    score, added, *base = (rng.normal(size=(rows, 2 + width)) @ rng.normal(size=(2 + width, 2 + width))).T
    found = nested_regression(torch.tensor(score), torch.tensor(np.stack(base, 1)), torch.tensor(added))
    first, second = r2(score, *base), r2(score, *base, added)
    assert found.rows == rows
    assert found.r2_base == pytest.approx(first, abs=1e-8)
    assert found.r2_full == pytest.approx(second, abs=1e-8)
    freedom = rows - width - 2
    f = (second - first) / ((1 - second) / freedom)
    if second < 1 - 1e-6:
        assert found.f == pytest.approx(f, rel=1e-4, abs=1e-6)
        assert found.p == pytest.approx(stats.f.sf(f, 1, freedom), rel=1e-3, abs=1e-9)


def test_units_columns_without_variance_and_columns_twice_change_nothing():
    rng = np.random.default_rng(2)
    score, base, added = (torch.tensor(v) for v in rng.normal(size=(3, 20)))
    expected = nested_regression(score, base, added)
    for other in (
        nested_regression(1e6 * score + 1e8, 1e-6 * base - 5, 1e9 * added),
        nested_regression(score, torch.stack([base, torch.full_like(base, 0.1), 3 * base], dim=1), added),
        nested_regression(score.float(), base, added + 0 * score),
    ):
        assert other.r2_full == pytest.approx(expected.r2_full, rel=1e-5)
        assert other.p == pytest.approx(expected.p, rel=1e-4)


def test_a_row_with_a_nan_is_dropped():
    rng = np.random.default_rng(3)
    score, base, added = (torch.tensor(v) for v in rng.normal(size=(3, 20)))
    expected = nested_regression(score[3:], base[3:], added[3:])
    score[0] = base[1] = added[2] = torch.nan
    assert nested_regression(score, base, added) == expected


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_too_few_rows_say_nothing(rows):
    score, base, added = torch.randn(3, rows)
    found = nested_regression(score, base, added)
    assert found.rows == rows
    assert all(math.isnan(v) for v in (found.r2_base, found.r2_full, found.gain, found.f, found.p))


def test_what_does_not_vary_is_not_explained():
    x = torch.arange(10.0)
    assert math.isnan(nested_regression(torch.ones(10), x, x.square()).gain)
    assert math.isnan(nested_regression(x.square(), x, torch.ones(10)).gain)
    assert math.isnan(nested_regression(x.square(), x, 2 * x + 1).gain)  # says nothing of its own


def test_a_perfect_fit_has_no_chance():
    x, z = torch.randn(2, 10, dtype=torch.float64)
    found = nested_regression(x + z, z, x)
    assert found.r2_full == pytest.approx(1)
    assert found.p < 1e-30


def test_shapes_are_checked():
    with pytest.raises(ArgumentError, match="added"):
        nested_regression(torch.ones(3), torch.ones(3), torch.ones(4))
    with pytest.raises(ArgumentError, match="base"):
        nested_regression(torch.ones(3), torch.ones(4), torch.ones(3))
