"""Long tails (COCO-LT) and Repeat Factor Sampling, beside the words of their papers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.data.boxes import epoch_order, load_boxes, long_tailed, read_coco, repeat_factors
from bisector.data.boxes.sampling import tail_targets
from bisector.data.keyed import keyed_permutation
from bisector.errors import ArgumentError
from tiny_boxes import labelled

seeds = st.integers(0, 2**32)
pictures = st.lists(st.lists(st.integers(1, 6), max_size=6), min_size=1, max_size=40).filter(any)
imbalances = st.floats(1, 200)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40).filter(any), imbalances, seeds)
def test_targets_fall_off_and_ask_for_no_more_than_there_is(counts, imbalance, seed):
    counts = torch.tensor(counts)
    targets = tail_targets(counts, imbalance, seed)
    assert ((targets >= 1) == (counts >= 1)).all()
    assert (targets <= counts).all()
    assert targets.max() == counts.max()
    present = counts > 0
    # The commoner class of two never has the smaller target.
    assert torch.equal(
        targets[present].sort().values, targets[present][counts[present].argsort(stable=True)].sort().values
    )
    rank = torch.arange(int(present.sum()), dtype=torch.float64)
    law = counts.max() * imbalance ** (-rank / max(len(rank) - 1, 1))
    wanted = law.round().clamp(min=1).minimum(counts[present].sort(descending=True).values)
    assert torch.equal(
        targets.sort(descending=True).values[: len(rank)], wanted.long().sort(descending=True)[0]
    )


@given(pictures, imbalances, seeds)
def test_no_class_is_lost_and_none_exceeds_where_that_can_be_helped(labels, imbalance, seed):
    whole = labelled(labels, 6)
    thin = long_tailed(whole, imbalance, seed)
    targets = tail_targets(whole.counts, imbalance, seed)
    assert ((thin.counts > 0) == (whole.counts > 0)).all()
    kept = {p.id for p in thin}
    assert [p.id for p in thin] == sorted(kept)
    counts = [torch.bincount(torch.tensor(own, dtype=torch.long) - 1, minlength=6) for own in labels]
    forced = (thin.counts > targets).any()
    if forced:
        # Some class has no picture that fits beside what was kept: take any one of its pictures away and the class
        # is lost, or it was itself too much. At least one kept picture is the only one of one of its classes.
        alone = (torch.stack([(counts[i] > 0).long() for i in kept]).sum(0) == 1) & (thin.counts > 0)
        assert alone.any()
    for index, own in enumerate(counts):
        if index not in kept and own.any():
            # What was left out would exceed a target, now that all is kept.
            assert ((thin.counts + own > targets) & (own > 0)).any()
    assert torch.equal(long_tailed(whole, imbalance, seed).counts, thin.counts)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), imbalances, seeds)
def test_pictures_of_one_box_reach_the_targets_exactly(counts, imbalance, seed):
    whole = labelled([[c] for c, count in enumerate(counts, 1) for _ in range(count)], len(counts))
    assert torch.equal(
        long_tailed(whole, imbalance, seed).counts, tail_targets(whole.counts, imbalance, seed)
    )


def test_a_picture_too_full_for_its_class_is_kept_where_there_is_no_other():
    thin = long_tailed(labelled([[1]] * 50 + [[2] * 9, [2] * 5 + [1]], 2), 50)
    assert thin.counts.tolist() == [51, 5]
    assert thin.left_out == (
        "x: 51 of 52 pictures kept for a long tail in the style of COCO-LT, 51 to 5 boxes a class "
        "(wanted 51 to 1; 0 classes have fewer, 1 more)",
    )


def test_the_seed_decides_which_pictures_stay():
    whole = labelled([[1, 2]] * 30 + [[1]] * 30 + [[3]] * 30, 3)
    kept = {tuple(p.id for p in long_tailed(whole, 10, seed)) for seed in range(10)}
    assert len(kept) == 10


def test_a_crowd_counts_for_nothing_and_empty_pictures_go(coco):
    path = coco()
    boxes = long_tailed(load_boxes(str(path), validation=str(path)).train, 1)
    assert [p.id for p in boxes] == [5, 3]
    assert boxes[1].crowd.tolist() == [False, True]  # it stays in its picture


def test_real_photographs(real_data):
    if not (real_data / "bccd").is_dir():
        pytest.skip("no bccd in the folder of real data")
    whole = load_boxes(str(real_data / "bccd")).train
    thin = load_boxes(str(real_data / "bccd"), imbalance=50).train
    assert (whole.counts.argsort() == thin.counts.argsort()).all()
    assert thin.counts[0] == round(2381 / 50)
    assert thin.counts.max() > 20 * thin.counts.min()
    assert (thin.counts <= tail_targets(whole.counts, 50, 0)).all()


def test_nothing_to_thin():
    with pytest.raises(ArgumentError, match="data: got no box in x; expected boxes to make a long tail of"):
        long_tailed(labelled([[], []], 6), 10)
    with pytest.raises(ArgumentError, match=r"imbalance: got 0\.1"):
        long_tailed(labelled([[1]], 6), 0.1)
    with pytest.raises(ArgumentError, match="seed: got -1; expected an integer of at least 0"):
        long_tailed(labelled([[1], [2]], 6), 2, seed=-1)


factors = st.lists(
    st.one_of(st.floats(0, 8), st.sampled_from([0.0, 1.0, 2.0, 0.5, 1 - 2**-53, 1 + 2**-52, 1e-300])),
    max_size=60,
).map(lambda values: torch.tensor(values, dtype=torch.float64))


def naive_factors(labels, threshold):
    """Gupta et al. 2019, section 4, word by word."""
    share = {c: np.mean([c in own for own in labels]) for own in labels for c in own}
    of_class = {c: max(1.0, math.sqrt(threshold / f)) for c, f in share.items()}
    return [max((of_class[c] for c in own), default=1.0) for own in labels]


@given(
    st.lists(st.lists(st.integers(1, 6), max_size=5), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0]),
)
def test_factors_are_those_of_the_paper(labels, threshold):
    found = repeat_factors(labelled(labels, 6), threshold)
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


@given(factors, seeds, st.integers(0, 1000))
def test_every_epoch_has_each_picture_floor_or_ceil_times(factors, seed, epoch):
    order = epoch_order(factors, seed, epoch)
    assert (order.dtype, len(order)) == (torch.int64, round(float(factors.sum())))
    times = torch.bincount(order, minlength=len(factors))
    assert (times >= factors.floor()).all()
    assert (times <= factors.ceil()).all()
    assert torch.equal(order, epoch_order(factors, seed, epoch))


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
