from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.statistics.moments import Moments
from bisector.statistics.scatter import Factor, Packed


def brute_force(rows):
    x = rows.numpy().astype(np.longdouble)
    mean = x.mean(0)
    d = x - mean
    length = np.sqrt((d**2).sum(1))
    return {
        "mean": mean,
        "scatter": d.T @ d,
        "third": ((length**2)[:, None] * d).sum(0),
        "fourth": (length**4).sum(),
        "scales": [(length**k).sum() for k in (2, 3, 4)],
    }


def assert_moments(moments, rows, count=None, weight=1.0):
    oracle = brute_force(rows)
    second, third, fourth = (weight * float(s) for s in oracle["scales"])
    # Where all rows are equal nothing but the rounding of their mean is left.
    rounding = 1e-15 * (1 + float(np.abs(oracle["mean"]).max()))
    close = np.testing.assert_allclose
    assert moments.count == pytest.approx(len(rows) if count is None else count, rel=1e-13)
    close(moments.mean, oracle["mean"].astype(float), rtol=1e-13, atol=rounding)
    close(
        moments.scatter.full(),
        weight * oracle["scatter"].astype(float),
        rtol=0,
        atol=1e-10 * second + rounding,
    )
    close(moments.third, weight * oracle["third"].astype(float), rtol=0, atol=1e-10 * third + rounding)
    close(moments.fourth, weight * float(oracle["fourth"]), rtol=0, atol=1e-10 * fourth + rounding)


def merged(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total.merge(part)
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
@settings(max_examples=300, deadline=None)
def test_any_split_merged_in_any_order_is_the_whole(case):
    rows, parts = case
    assert_moments(Moments.of_rows(rows), rows)
    assert_moments(merged([Moments.of_rows(part) for part in parts]), rows)


@given(split_rows())
@settings(max_examples=100, deadline=None)
def test_a_class_of_n_instances_holds_n_minus_1_rows_until_they_are_p(case):
    rows, parts = case
    count, dim = rows.shape
    for moments in (Moments.of_rows(rows), merged([Moments.of_rows(part) for part in parts])):
        assert len(moments.scatter.rows()) == min(count - 1, dim)
        assert isinstance(moments.scatter, Factor if count - 1 < dim else Packed)
        assert moments.nbytes == 8 * dim * (min(count - 1, dim) + 2)


def test_merging_is_associative_across_both_forms():
    rows = torch.randn(60, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e4
    a, b, c = (Moments.of_rows(part) for part in (rows[:4], rows[4:30], rows[30:]))
    assert [type(m.scatter) for m in (a, b, c)] == [Factor, Packed, Packed]
    for moments in (
        a.merge(b).merge(c),
        a.merge(b.merge(c)),
        c.merge(a).merge(b),
        b.merge(a).merge(c),
    ):
        assert_moments(moments, rows)


@pytest.mark.parametrize("far", [0.0, 100.0])
def test_third_and_fourth_follow_the_mean(far):
    # One merge that moves both means a long way is the shift formula and nothing else.
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(11, 3, generator=generator, dtype=torch.float64).exp()
    right = torch.randn(5, 3, generator=generator, dtype=torch.float64).exp() + far
    assert_moments(Moments.of_rows(left).merge(Moments.of_rows(right)), torch.cat([left, right]))


@pytest.mark.parametrize("count", [20, 300, 20_000])
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_what_single_precision_products_cost(count, far):
    # Per entry at most a few roundings of its own size, whatever the number of rows and however far the mean; of
    # fewer rows than dimensions nothing.
    rows = (
        torch.randn(count, 40, generator=torch.Generator().manual_seed(2)) * torch.logspace(-3, 3, 40) + far
    )
    assert rows.dtype == torch.float32
    moments = Moments.of_rows(rows)
    for part in rows.split(max(7, count // 3)):
        moments.add_rows_(part)
    assert moments.mean.dtype == moments.scatter.full().dtype == moments.third.dtype == torch.float64
    exact = torch.cat([rows, rows]).double()
    deviations = exact - exact.mean(0)
    sizes = deviations.square().sum(0).sqrt()
    off = ((moments.scatter.full() - deviations.T @ deviations) / sizes.outer(sizes)).abs()
    assert off.max() < (1e-9 if 2 * count <= 2 * 40 else 8 * torch.finfo(torch.float32).eps)
    assert moments.trace == pytest.approx(float(deviations.square().sum()) / (2 * count), rel=1e-7)


@pytest.mark.parametrize("count", [4, 40])
def test_covariance_and_spectrum_are_numpys(count):
    rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    moments = Moments.of_rows(rows)
    covariance = np.cov(rows.numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(moments.covariance(), covariance, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(moments.eigenvalues, np.linalg.eigvalsh(covariance), rtol=1e-11, atol=1e-14)
    assert moments.trace == pytest.approx(np.trace(covariance), rel=1e-13)
    assert moments.gram().square().sum().item() == pytest.approx((covariance**2).sum(), rel=1e-12)
    assert moments.gram().shape == (min(count - 1, 6),) * 2


@pytest.mark.parametrize("count", [4, 40])
def test_scaling_keeps_the_distribution_and_lowers_the_evidence(count):
    rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    moments = Moments.of_rows(rows)
    half = moments.scaled(0.5)
    assert_moments(half, rows, count=count / 2, weight=0.5)
    torch.testing.assert_close(half.covariance(), moments.covariance())
    # Two halves are the whole again.
    twice = half.merge(half)
    torch.testing.assert_close(twice.covariance(), moments.covariance())
    assert twice.fourth == pytest.approx(moments.fourth)


def test_the_rows_of_every_form_are_the_scatter():
    rows = torch.randn(50, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for count in (3, 50):
        moments = Moments.of_rows(rows[:count])
        again = moments.scatter.rows()
        torch.testing.assert_close(again.T @ again, moments.scatter.full())
        vector = rows[0]
        torch.testing.assert_close(moments.scatter.image(vector), moments.scatter.full() @ vector)


def test_no_gradient_is_kept():
    rows = torch.ones(2, 3, requires_grad=True)
    moments = Moments.of_rows(rows * 2)
    assert not any(t.requires_grad for t in (moments.mean, moments.scatter.factor, moments.third))


def test_the_largest_single_precision_numbers_do_not_overflow():
    rows = torch.tensor([[3e38, 0.0], [-3e38, 3e38], [0.0, -3e38]])
    moments = Moments.of_rows(rows).merge(Moments.of_rows(-rows))
    assert np.isfinite(moments.fourth)
    assert moments.eigenvalues.isfinite().all()


def test_complaints():
    with pytest.raises(ArgumentError, match=r"rows: got \(0, 3\)"):
        Moments.of_rows(torch.empty(0, 3))
    with pytest.raises(ArgumentError, match="rows: got"):
        Moments.of_rows(torch.ones(3))
    with pytest.raises(ArgumentError, match="other: got dimension 2; expected 3"):
        Moments.of_rows(torch.ones(1, 3)).merge(Moments.of_rows(torch.ones(1, 2)))
    with pytest.raises(ArgumentError, match="weight: got 0"):
        Moments.of_rows(torch.ones(1, 3)).scaled(0)
