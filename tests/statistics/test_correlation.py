import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bisector.errors import ArgumentError
from bisector.statistics.correlation import partial_correlation, pearson


def table(seed, rows, columns):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) @ mix


@given(st.integers(0, 10_000), st.integers(0, 3), st.integers(3, 60))
def test_it_is_the_correlation_of_numpys_residuals_and_without_given_scipys(seed, width, extra):
    x, y, *held = table(seed, extra + 2 * width, 2 + width).T
    design = np.column_stack([np.ones(len(x)), *held])
    left, right = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x.numpy(), y.numpy()))
    expected = np.corrcoef(left, right)[0, 1]
    if width:
        found = partial_correlation(x, y, torch.stack(held, dim=1))
        assert found.item() == pytest.approx(expected, abs=1e-8)
    else:
        assert pearson(x, y).item() == pytest.approx(expected, abs=1e-10)
        assert pearson(x, y).item() == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-10)


def test_first_order_is_the_textbooks():
    x, y, z = table(0, 30, 3).T
    xy, xz, yz = (pearson(a, b).item() for a, b in ((x, y), (x, z), (y, z)))
    textbook = (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5
    assert partial_correlation(x, y, z).item() == pytest.approx(textbook, rel=1e-12)


def test_units_and_offsets_do_not_matter():
    x, y, z, w = table(1, 30, 4).T
    expected = partial_correlation(x, y, torch.stack([z, w], dim=1))
    scaled = partial_correlation(1e6 * x + 1e8, 1e-6 * y - 3, torch.stack([1e9 * z, 1e-9 * w + 1], dim=1))
    torch.testing.assert_close(scaled, expected, rtol=1e-6, atol=0)


def test_rows_with_a_nan_anywhere_are_dropped():
    x, y, z = table(2, 20, 3).T
    expected = partial_correlation(x[3:], y[3:], z[3:])
    x[0] = y[1] = z[2] = torch.nan
    torch.testing.assert_close(partial_correlation(x, y, z), expected)


def test_integers_and_half_precision_are_taken():
    assert pearson(torch.tensor([1, 2, 3]), torch.tensor([2, 4, 6])).item() == pytest.approx(1)
    assert pearson(torch.tensor([1, 2, 4]), torch.tensor([2.0, 1.0, 0.0]).half()).dtype == torch.float64


def test_too_few_rows_are_nan():
    x, y, z = table(3, 4, 3).T
    assert not pearson(x[:3], y[:3]).isnan()
    assert pearson(x[:2], y[:2]).isnan()
    assert pearson(x[:0], y[:0]).isnan()
    assert not partial_correlation(x, y, z).isnan()
    assert partial_correlation(x[:3], y[:3], z[:3]).isnan()
    assert partial_correlation(x, y, torch.stack([z, z**2], dim=1)).isnan()


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
    twice = torch.stack([z, still, 2 * z], dim=1)
    torch.testing.assert_close(partial_correlation(x, y, twice), partial_correlation(x, y, z))


def test_mistakes_are_named():
    x = torch.arange(5.0)
    with pytest.raises(ArgumentError, match=r"y: got shape \(4,\); expected the shape of x"):
        pearson(x, x[:4])
    with pytest.raises(ArgumentError, match="x: got shape"):
        pearson(x.unsqueeze(0), x)
    with pytest.raises(ArgumentError, match="given: got shape"):
        partial_correlation(x, x, x[:4])
    with pytest.raises(ArgumentError, match="infinite"):
        pearson(x / 0, x)
