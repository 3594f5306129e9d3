import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.data.long_tail import long_tail_counts, long_tail_indices
from bisector.errors import ArgumentError

availability = st.lists(st.integers(1, 6000), min_size=1, max_size=40).map(torch.tensor)
imbalances = st.floats(1, 1000)
seeds = st.integers(0, 2**32)


@given(availability, imbalances, seeds)
def test_never_more_than_available_and_never_none(available, imbalance, seed):
    kept = long_tail_counts(available, imbalance, seed)
    assert kept.dtype == torch.long
    assert (kept >= 1).all()
    assert (kept <= available).all()


@given(availability, imbalances, seeds)
def test_the_profile_is_exponential_and_never_cut_off(available, imbalance, seed):
    kept = long_tail_counts(available, imbalance, seed).sort(descending=True).values.tolist()
    last = max(len(kept) - 1, 1)
    assert kept == [max(1, round(kept[0] * imbalance ** (-rank / last))) for rank in range(len(kept))]


@given(availability, seeds)
def test_no_imbalance_gives_every_class_the_smallest_count(available, seed):
    assert long_tail_counts(available, 1, seed).tolist() == [int(available.min())] * len(available)


@given(st.integers(1, 5000), imbalances, seeds)
def test_a_balanced_set_keeps_all_of_its_commonest_class(available, imbalance, seed):
    assert long_tail_counts(torch.full((10,), available), imbalance, seed).max() == available


def test_cifar10_long_tail_of_the_literature():
    found = long_tail_counts(torch.full((10,), 5000), 100, seed=0).sort(descending=True).values.tolist()
    printed = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]  # Cui et al. cut off instead of rounding
    assert all(math.floor(n) <= m <= n + 1 for n, m in zip(printed, found, strict=True))


def test_the_seed_decides_which_classes_are_rare():
    available = torch.full((10,), 100)
    rarest = {long_tail_counts(available, 50, seed).argmin().item() for seed in range(60)}
    assert rarest == set(range(10))
    assert torch.equal(long_tail_counts(available, 50, 7), long_tail_counts(available, 50, 7))


@given(st.integers(1, 6), imbalances, seeds)
def test_indices_are_a_subset_with_the_counts(classes, imbalance, seed):
    labels = torch.arange(classes).repeat(30)[torch.randperm(30 * classes)]
    kept = long_tail_indices(labels, imbalance, seed)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert torch.equal(labels[kept].bincount(), long_tail_counts(labels.bincount(), imbalance, seed))
    assert torch.equal(kept, long_tail_indices(labels, imbalance, seed))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), imbalances, seeds)
def test_each_class_keeps_the_first_of_those_drawn(labels, imbalance, seed):
    labels = torch.tensor(labels).unique(return_inverse=True)[1]
    counts = long_tail_counts(labels.bincount(), imbalance, seed).tolist()
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    expected = [[row for row in drawn if labels[row] == c][:count] for c, count in enumerate(counts)]
    assert long_tail_indices(labels, imbalance, seed).tolist() == sorted(
        row for rows in expected for row in rows
    )


def test_another_seed_keeps_other_instances():
    labels = torch.zeros(50, dtype=torch.long).index_fill(0, torch.arange(10), 1)
    kept = {tuple(long_tail_indices(labels, 1, seed).tolist()) for seed in range(5)}
    assert len(kept) == 5


@pytest.mark.parametrize("imbalance", [0.5, 0, -3, math.inf, math.nan])
def test_illegal_imbalance(imbalance):
    with pytest.raises(
        ArgumentError, match=f"imbalance: got {imbalance}; expected a finite number of at least 1"
    ):
        long_tail_counts(torch.tensor([5, 5]), imbalance, 0)


def test_a_class_without_instances_is_refused():
    with pytest.raises(ArgumentError, match="available: got 0; expected at least 1 instance"):
        long_tail_indices(torch.tensor([0, 2]), 10, 0)
    with pytest.raises(ArgumentError, match=r"labels: got shape \(0,\)"):
        long_tail_indices(torch.tensor([], dtype=torch.long), 10, 0)
    with pytest.raises(ArgumentError, match=r"available: got shape \(1, 2\)"):
        long_tail_counts(torch.ones(1, 2), 10, 0)
    with pytest.raises(ArgumentError, match="labels: got -1"):
        long_tail_indices(torch.tensor([-1, 2]), 10, 0)
