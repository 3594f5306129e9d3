import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bisector.data.boxes import BoxSet, Picture, epoch_order, read_coco, repeat_factors
from bisector.data.keyed import keyed_permutation
from bisector.errors import ArgumentError

factors = st.lists(
    st.one_of(st.floats(0, 8), st.sampled_from([0.0, 1.0, 2.0, 0.5, 1 - 2**-53, 1 + 2**-52, 1e-300])),
    max_size=60,
).map(lambda values: torch.tensor(values, dtype=torch.float64))
seeds = st.integers(0, 2**32)


def naive_factors(labels, threshold):
    """Gupta et al. 2019, section 4, word by word."""
    share = {c: np.mean([c in own for own in labels]) for own in labels for c in own}
    of_class = {c: max(1.0, math.sqrt(threshold / f)) for c, f in share.items()}
    return [max((of_class[c] for c in own), default=1.0) for own in labels]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 6), max_size=5), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0]),
)
def test_factors_are_those_of_the_paper(labels, threshold):
    pictures = [
        Picture.of(i, f"{i}", 8, 8, torch.tensor([[1.0, 1, 5, 5]]).repeat(len(own), 1), torch.tensor(own))
        for i, own in enumerate(labels)
    ]
    found = repeat_factors(BoxSet(pictures, [*"abcdef"], name="x"), threshold)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(naive_factors(labels, threshold), rel=1e-12)


def test_factors_of_the_real_file(real_data):
    path = real_data / "coco128" / "instances_train2017.json"
    if not path.exists():
        pytest.skip("no coco128 in the folder of real data")
    boxes = read_coco(path)
    found = repeat_factors(boxes, 0.03)
    assert found.tolist() == pytest.approx(naive_factors([p.labels.tolist() for p in boxes], 0.03))
    assert found.max() == pytest.approx(math.sqrt(0.03 * 128))
    with pytest.raises(ArgumentError, match=r"threshold: got 2; expected a finite number .* at most 1"):
        repeat_factors(boxes, 2)


def test_a_crowd_makes_no_picture_rare(coco):
    box = {"image_id": 3, "bbox": [1, 1, 5, 5]}
    boxes = read_coco(
        coco(
            annotations=[{"id": 1, "category_id": 7, "iscrowd": 1, **box}, {"id": 2, "category_id": 2, **box}]
        )
    )
    assert repeat_factors(boxes, 1.0).tolist() == pytest.approx([1, math.sqrt(3), 1])


@settings(deadline=None, max_examples=200)
@given(factors, seeds, st.integers(0, 1000))
def test_every_epoch_has_each_picture_floor_or_ceil_times(factors, seed, epoch):
    order = epoch_order(factors, seed, epoch)
    assert (order.dtype, len(order)) == (torch.int64, round(float(factors.sum())))
    times = torch.bincount(order, minlength=len(factors))
    assert (times >= factors.floor()).all()
    assert (times <= factors.ceil()).all()
    assert torch.equal(order, epoch_order(factors, seed, epoch))


@settings(deadline=None)
@given(st.integers(0, 50), seeds, st.integers(0, 1000))
def test_factors_of_one_are_the_plain_order(pictures, seed, epoch):
    plain = keyed_permutation(seed, epoch, pictures)
    assert torch.equal(epoch_order(torch.ones(pictures), seed, epoch), plain)


@pytest.mark.parametrize(
    "factors",
    [
        torch.tensor([1.0, 1.25, 1.5, 1.75, 3.5]),  # a whole sum: nothing is scaled
        torch.full((40,), 1.1),
        torch.linspace(1, 4, 31)[torch.randperm(31, generator=torch.Generator().manual_seed(5))],
    ],
)
def test_the_average_over_epochs_is_the_factor(factors):
    epochs = 1000
    total = torch.stack(
        [torch.bincount(epoch_order(factors, 11, e), minlength=len(factors)) for e in range(epochs)]
    ).double()
    share = (factors - factors.floor()).double()
    # What scaling to a whole sum may move, and five deviations of a mean of 0s and 1s.
    moved = abs(round(float(factors.sum())) - float(factors.double().sum()))
    bound = moved + 5 * (share * (1 - share) / epochs).sqrt() + 1e-6
    assert ((total.mean(0) - factors.double()).abs() <= bound).all()


def test_epochs_and_seeds_differ_and_the_order_is_mixed():
    factors = torch.full((200,), 1.3)
    orders = {tuple(epoch_order(factors, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    order = epoch_order(factors, 0, 0).double()
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.3
    repeats = [set(np.bincount(epoch_order(factors, 0, e), minlength=200).nonzero()[0]) for e in range(2)]
    assert all(len(some) == 200 for some in repeats)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_factors_that_are_no_numbers(bad):
    with pytest.raises(ArgumentError, match="factors: got one that is negative or not finite"):
        epoch_order(torch.tensor([1.0, bad]), 0, 0)


def test_a_seed_or_epoch_below_0_is_a_line():
    with pytest.raises(ArgumentError, match="seed: got -1; expected an integer of at least 0"):
        epoch_order(torch.ones(3), -1, 0)
    with pytest.raises(ArgumentError, match="epoch: got -1; expected an integer of at least 0"):
        epoch_order(torch.ones(3), 0, -1)
