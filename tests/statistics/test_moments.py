from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.statistics.moments import Moments, precise


def scatter_of(moments):
    rows = moments.scatter.rows().double()
    return rows.T @ rows


def eigenvalues_of(moments):
    found = torch.linalg.eigvalsh(moments.scatter.gram() / moments.count)
    return torch.cat([found.new_zeros(moments.dim - len(found)), found])


def draw(count, dim, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_moments(moments, rows, weight=1.0):
    """By numpy, with more digits."""
    x = rows.numpy().astype(np.longdouble)
    mean = x.mean(0)
    d = x - mean
    length = np.sqrt((d**2).sum(1))
    second, third, fourth = (weight * float((length**k).sum()) for k in (2, 3, 4))
    # Where all rows are equal nothing but the rounding of their mean is left.
    rounding = 1e-15 * (1 + float(np.abs(mean).max()))
    close = np.testing.assert_allclose
    assert moments.count == pytest.approx(weight * len(rows), rel=1e-13)
    close(moments.mean, mean.astype(float), rtol=1e-13, atol=rounding)
    close(scatter_of(moments), weight * (d.T @ d).astype(float), rtol=0, atol=1e-10 * second + rounding)
    expected = weight * ((length**2)[:, None] * d).sum(0).astype(float)
    close(moments.third, expected, rtol=0, atol=1e-10 * third + rounding)
    close(moments.fourth, fourth, rtol=0, atol=1e-10 * fourth + rounding)


def merged(*parts):
    total = Moments.empty(parts[0].dim)
    for part in parts:
        total.merge_(part)
    return total


@st.composite
def split_rows(draw):
    dim = draw(st.integers(1, 7))
    count = draw(st.integers(1, 14))
    offset = draw(st.sampled_from([0.0, 1e4, -3e4]))
    eighths = draw(st.lists(st.integers(-80, 80), min_size=dim * count, max_size=dim * count))
    rows = offset + torch.tensor(eighths, dtype=torch.float64).reshape(count, dim) / 8
    cuts = draw(st.sets(st.integers(1, max(1, count - 1)), max_size=6))
    edges = [0, *sorted(c for c in cuts if c < count), count]
    parts = [rows[a:b] for a, b in pairwise(edges)]
    return rows, draw(st.permutations(parts))


@given(split_rows())
def test_any_split_merged_in_any_order_is_the_whole(case):
    rows, parts = case
    assert_moments(Moments.of_rows(rows), rows)
    assert_moments(merged(*map(Moments.of_rows, parts)), rows)
    first = Moments.of_rows(parts[0])
    for part in parts[1:]:
        first.merge_(Moments.of_rows(part))
    assert_moments(first, rows)
    total = merged(Moments.of_rows(parts[0]))
    total.merge_(merged(*map(Moments.of_rows, parts[1:] or parts)))
    assert_moments(total, rows if parts[1:] else rows.repeat(2, 1))


@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 6))
def test_weights_are_rows_repeated(seed, count, dim):
    rows = draw(count, dim, seed) + 3
    times = torch.randint(1, 5, (count,), generator=torch.Generator().manual_seed(seed))
    found = Moments.of_rows(rows, times.double())
    assert_moments(found, rows.repeat_interleave(times, dim=0))
    assert found.scatter.gram().shape == (min(count - 1, dim) if count <= dim else dim,) * 2
    repeated = Moments.of_rows(rows.repeat_interleave(times, dim=0))
    torch.testing.assert_close(eigenvalues_of(found), eigenvalues_of(repeated), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("far", [0.0, 100.0])
def test_third_and_fourth_follow_the_mean(far):
    # One merge that moves both means a long way is the shift formula and nothing else.
    left, right = draw(11, 3, 1).exp(), draw(5, 3, 2).exp() + far
    assert_moments(merged(Moments.of_rows(left), Moments.of_rows(right)), torch.cat([left, right]))


@pytest.mark.parametrize("count", [20, 300, 20_000])
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_what_single_precision_products_cost(count, far):
    # Per entry at most a few roundings of its own size, whatever the number of rows and however far the mean; of
    # fewer rows than dimensions nothing.
    rows = (draw(count, 40, 2).float() * torch.logspace(-3, 3, 40) + far).float()
    moments = Moments.of_rows(rows)
    for part in rows.split(max(7, count // 3)):
        moments.add_rows_(part)
    assert moments.mean.dtype == moments.scatter.gram().dtype == moments.third.dtype == torch.float64
    exact = torch.cat([rows, rows]).double()
    deviations = exact - exact.mean(0)
    sizes = deviations.square().sum(0).sqrt()
    off = ((moments.scatter.gram() - deviations.T @ deviations) / sizes.outer(sizes)).abs()
    assert off.max() < (1e-9 if 2 * count <= 2 * 40 else 8 * torch.finfo(torch.float32).eps)
    assert moments.scatter.trace == pytest.approx(float(deviations.square().sum()), rel=1e-7)


@pytest.mark.parametrize("count", [4, 40])
def test_covariance_and_spectrum_are_numpys(count):
    rows = draw(count, 6, 3)
    covariance = np.cov(rows.numpy(), rowvar=False, bias=True)
    spectrum = np.linalg.eigvalsh(covariance)
    for moments in (Moments.of_rows(rows), merged(Moments.of_rows(rows))):
        np.testing.assert_allclose(scatter_of(moments) / count, covariance, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(eigenvalues_of(moments), spectrum, rtol=1e-11, atol=1e-14)
        assert moments.scatter.trace / count == pytest.approx(np.trace(covariance), rel=1e-13)
        vector = rows[0]
        torch.testing.assert_close(moments.scatter.image(vector), scatter_of(moments) @ vector)


def test_scaling_keeps_the_distribution_and_lowers_the_evidence():
    rows = draw(40, 6, 4)
    moments = merged(Moments.of_rows(rows))
    half = moments.scaled(0.5)
    assert_moments(half, rows, weight=0.5)
    half.merge_(moments.scaled(0.5))  # two halves are the whole again
    assert_moments(half, rows)
    assert_moments(moments, rows)


def test_no_gradient_is_kept():
    moments = Moments.of_rows(precise(torch.ones(2, 3, requires_grad=True) * 2))
    assert not any(t.requires_grad for t in (moments.mean, moments.scatter.rows(), moments.third))


def test_the_largest_single_precision_numbers_do_not_overflow():
    rows = precise(torch.tensor([[3e38, 0.0], [-3e38, 3e38], [0.0, -3e38]]))
    moments = merged(Moments.of_rows(rows), Moments.of_rows(-rows))
    assert np.isfinite(moments.fourth)
    assert eigenvalues_of(moments).isfinite().all()


def test_mistakes_are_named():
    with pytest.raises(ArgumentError, match=r"rows: got \(0, 3\)"):
        Moments.of_rows(torch.empty(0, 3))
    with pytest.raises(ArgumentError, match="rows: got"):
        Moments.of_rows(torch.ones(3))
    with pytest.raises(ArgumentError, match="other: got dimension 2; expected 3"):
        Moments.empty(3).merge_(Moments.of_rows(torch.ones(1, 2)))
    with pytest.raises(ArgumentError, match="weight: got 0"):
        Moments.empty(3).scaled(0)
