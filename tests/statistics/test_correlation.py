import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bisector.errors import ArgumentError
from bisector.statistics.correlation import partial_correlation, pearson, spearman


def table(seed, rows, columns):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) @ mix


def residual_correlation(x, y, given_):
    design = np.column_stack([np.ones(len(x)), given_])
    left, right = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x.numpy(), y.numpy()))
    return np.corrcoef(left, right)[0, 1]


@given(st.integers(0, 10_000), st.integers(3, 60))
@settings(max_examples=50, deadline=None)
def test_pearson_is_numpys_and_scipys(seed, rows):
    x, y = table(seed, rows, 2).T
    assert pearson(x, y).item() == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-10)
    assert pearson(x, y).item() == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-10)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_partial_correlation_is_that_of_residuals(seed, width, extra):
    x, y, *held = table(seed, 8 + width + extra, 2 + width).T
    held = torch.stack(held, dim=1)
    assert partial_correlation(x, y, held).item() == pytest.approx(residual_correlation(x, y, held), abs=1e-8)


def test_first_order_is_the_textbooks():
    x, y, z = table(0, 30, 3).T
    xy, xz, yz = (pearson(a, b).item() for a, b in ((x, y), (x, z), (y, z)))
    textbook = (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5
    assert partial_correlation(x, y, z).item() == pytest.approx(textbook, rel=1e-12)
    assert partial_correlation(x, y, z.unsqueeze(1)).item() == pytest.approx(textbook, rel=1e-12)


def test_units_and_offsets_do_not_matter():
    x, y, z, w = table(1, 30, 4).T
    expected = partial_correlation(x, y, torch.stack([z, w], dim=1))
    scaled = partial_correlation(1e6 * x + 1e8, 1e-6 * y - 3, torch.stack([1e9 * z, 1e-9 * w + 1], dim=1))
    torch.testing.assert_close(scaled, expected, rtol=1e-6, atol=0)


def test_rows_with_a_nan_anywhere_are_dropped():
    x, y, z = table(2, 20, 3).T
    expected = partial_correlation(x[3:], y[3:], z[3:])
    for column, row in ((x, 0), (y, 1), (z, 2)):
        column[row] = torch.nan
    torch.testing.assert_close(partial_correlation(x, y, z), expected)
    torch.testing.assert_close(pearson(x, y), pearson(x[2:], y[2:]))


def test_integers_and_half_precision_are_taken():
    assert pearson(torch.tensor([1, 2, 3]), torch.tensor([2, 4, 6])).item() == pytest.approx(1)
    assert pearson(torch.tensor([1, 2, 4]), torch.tensor([2.0, 1.0, 0.0]).half()).dtype == torch.float64


def test_too_few_rows_are_nan():
    x, y, z = table(3, 4, 3).T
    assert not pearson(x[:3], y[:3]).isnan()
    assert pearson(x[:2], y[:2]).isnan()
    assert not partial_correlation(x, y, z).isnan()
    assert partial_correlation(x[:3], y[:3], z[:3]).isnan()
    assert partial_correlation(x, y, torch.stack([z, z**2], dim=1)).isnan()
    assert pearson(x[:0], y[:0]).isnan()


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 + 0.1])
def test_no_variance_is_nan_whatever_rounding_makes_of_it(constant):
    x, y, z = table(4, 7, 3).T
    still = torch.full_like(x, constant)
    assert pearson(still, y).isnan()
    assert pearson(x, still).isnan()
    assert partial_correlation(2 * z + constant, y, z).isnan()


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_holding_a_constant_fixed_changes_nothing(constant):
    x, y, z = table(5, 9, 3).T
    still = torch.full_like(x, constant)
    torch.testing.assert_close(partial_correlation(x, y, still), pearson(x, y))
    torch.testing.assert_close(
        partial_correlation(x, y, torch.stack([z, still, 2 * z], dim=1)), partial_correlation(x, y, z)
    )


def test_complaints():
    x = torch.arange(5.0)
    with pytest.raises(ArgumentError, match=r"y: got shape \(4,\); expected the shape of x"):
        pearson(x, x[:4])
    with pytest.raises(ArgumentError, match="x: got shape"):
        pearson(x.unsqueeze(0), x)
    with pytest.raises(ArgumentError, match="given: got shape"):
        partial_correlation(x, x, x[:4])
    with pytest.raises(ArgumentError, match="infinite"):
        pearson(x / 0, x)


@given(st.integers(0, 10_000), st.integers(3, 40), st.sampled_from([0, 1, 3]))
@settings(max_examples=50, deadline=None)
def test_spearman_is_scipys_ties_and_all(seed, rows, decimals):
    x, y = table(seed, rows, 2).T
    x = x.round(decimals=decimals) if decimals else x
    if len(set(x.tolist())) > 1:
        assert spearman(x, y).item() == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-10)


def test_spearman_drops_nan_and_refuses_infinity():
    x, y = table(0, 20, 2).T
    expected = stats.spearmanr(x[2:], y[2:]).statistic
    x[0], y[1] = torch.nan, torch.nan
    assert spearman(x, y).item() == pytest.approx(expected)
    assert spearman(torch.ones(5), torch.arange(5)).isnan()
    assert spearman(x[2:4], y[2:4]).isnan()
    with pytest.raises(ArgumentError, match="infinite"):
        spearman(torch.tensor([1.0, 2.0, torch.inf]), torch.arange(3))
