"""Amounts of sketches: the truth lies within the bound, in ten thousand random trials and at the extremes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.information.amount import class_amounts
from bisector.information.sketched import sketched_amount, spectra
from bisector.information.volume import volume_of_spectrum
from bisector.statistics.moments import Moments

BOUNDED = ("none", "ledoit-wolf", "oas")


def exact_amount(rows, shrinkage, weight=1.0):
    moments = Moments.of_rows(rows, torch.full((len(rows),), weight, dtype=torch.float64))
    [(_, amount)] = class_amounts([(0, moments)], shrinkage, ranks=False)
    return amount.bits


def draw(generator, dim):
    """Rows of a random spectrum, length, mean and dependence, and how they come."""

    def pick(*values):
        return values[int(torch.randint(len(values), (), generator=generator))]

    count = int(torch.randint(2, 60, (), generator=generator))
    spectrum = torch.arange(1, dim + 1).float().pow(-pick(0.0, 0.5, 1.5, 4.0)) * pick(0.01, 1.0, 30.0)
    rows = torch.randn(count, dim, generator=generator) * spectrum
    if pick(True, False):
        rows = rows.exp().clamp(max=100)  # skewed, which fourth moments feel
    return rows + pick(0.0, 3.0), pick(3, 9, 30)


@pytest.mark.slow
def test_the_bound_holds_in_ten_thousand_trials():
    generator = torch.Generator().manual_seed(0)
    tightness = []
    for trial in range(10_000):
        dim = (2, 5, 9, 16)[trial % 4]
        rows, step = draw(generator, dim)
        size = 1 + trial % max(1, dim // 2)
        moments = Moments.of_rows(rows[:step]).sketched(size)
        for part in rows[step:].split(step) if len(rows) > step else ():
            moments.add_rows_(part)
        shrinkage = BOUNDED[trial % 3]
        exact = exact_amount(rows.double(), shrinkage)
        found = sketched_amount(moments, shrinkage)
        error = abs(found.amount - exact)
        assert error <= found.bound + 1e-9 * (1 + exact), (trial, shrinkage, error, found)
        if found.bound > 1e-3:
            tightness.append(error / found.bound)
    assert max(tightness) > 0.5  # it is not idle


@given(seed=st.integers(0, 10**6), dim=st.integers(1, 12), shrinkage=st.sampled_from(BOUNDED))
def test_it_holds_after_merging_forgetting_and_resizing(seed, dim, shrinkage):
    generator = torch.Generator().manual_seed(seed)
    (a, step), (b, _) = draw(generator, dim), draw(generator, dim)
    moments = Moments.of_rows(a).sketched(3)
    moments.add_rows_(b[:step])
    rows = torch.cat([a, b[:step]])
    if len(b) > step:
        moments.merge_(Moments.of_rows(b[step:]).sketched(2))
        rows = torch.cat([rows, b[step:]])
    moments = moments.sketched(1)
    found = sketched_amount(moments, shrinkage)
    exact = exact_amount(rows.double(), shrinkage)
    assert abs(found.amount - exact) <= found.bound + 1e-9 * (1 + exact)
    half = sketched_amount(moments.scaled(0.5), shrinkage)
    if len(rows) >= 4:
        exact = exact_amount(rows.double(), shrinkage, weight=0.5)
        assert abs(half.amount - exact) <= half.bound + 1e-9 * (1 + exact)


def test_the_extremes_are_reached():
    # One direction kept of diag(4, 2, 1): the rest may be anything of the right trace below what is missing, and
    # brute force over rests that commute finds nothing outside of the two spectra.
    rows = torch.diag(torch.tensor([4.0, 2.0, 1.0]).sqrt()).repeat(2, 1)
    rows[3:] *= -1
    moments = Moments.of_rows(rows).sketched(1)
    found = spectra(moments)
    held = moments.scatter.rows().square().sum(0) / 6
    most = moments.scatter.missing / 6
    missing = moments.scatter.trace / 6 - float(held.sum())
    low, high = (float(volume_of_spectrum(s)) for s in (found.low, found.high))
    grid = torch.linspace(0, most, 81, dtype=torch.float64)
    volumes = []
    for first in grid:
        for second in grid:
            third = missing - first - second
            if -1e-12 <= third <= most + 1e-12:
                rest = torch.stack([first, second, third.clamp(min=0)])
                volumes.append(float(volume_of_spectrum(held + rest)))
    assert min(volumes) >= low - 1e-6
    assert max(volumes) <= high + 1e-6
    assert min(volumes) == pytest.approx(low, abs=0.02)
    assert max(volumes) == pytest.approx(high, abs=0.02)


def test_the_estimate_of_the_nonlinear_ones_is_of_the_size_of_the_error():
    generator = torch.Generator().manual_seed(3)
    ratios = []
    for trial in range(60):
        count = 40 + 10 * trial
        rows = torch.randn(count, 30, generator=generator) * torch.logspace(0.5, -1, 30)
        moments = Moments.of_rows(rows[:30]).sketched(6)
        moments.add_rows_(rows[30:])
        found = sketched_amount(moments, "quadratic-inverse")
        exact = exact_amount(rows, "quadratic-inverse")
        assert math.isnan(found.bound)
        ratios.append(abs(found.amount - exact) / found.estimate)
    assert sum(ratio <= 1 for ratio in ratios) >= 48
    assert max(ratios) < 3


@pytest.mark.parametrize("shrinkage", BOUNDED)
def test_huge_embeddings_have_a_bound_too(shrinkage):
    rows = 1e6 * torch.randn(100, 8, generator=torch.Generator().manual_seed(4))
    found = sketched_amount(Moments.of_rows(rows).sketched(2), shrinkage)
    exact = exact_amount(rows.double(), shrinkage)
    assert abs(found.amount - exact) <= found.bound
    assert math.isfinite(found.bound)
