import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bisector.data.boxes import BoxSet, Picture, load_boxes, long_tailed
from bisector.data.boxes.sampling import tail_targets
from bisector.errors import ArgumentError

pictures = st.lists(st.lists(st.integers(1, 6), max_size=6), min_size=1, max_size=40).filter(any)
imbalances = st.floats(1, 200)
seeds = st.integers(0, 2**32)


def box_set(labels, classes=6):
    box = torch.tensor([[1.0, 1, 5, 5]])
    return BoxSet(
        [
            Picture.of(i, f"{i}", 8, 8, box.repeat(len(own), 1), torch.tensor(own))
            for i, own in enumerate(labels)
        ],
        [f"c{c}" for c in range(classes)],
        name="x",
    )


@settings(deadline=None)
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


@settings(deadline=None, max_examples=100)
@given(pictures, imbalances, seeds)
def test_no_class_is_lost_and_none_exceeds_where_that_can_be_helped(labels, imbalance, seed):
    whole = box_set(labels)
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


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), imbalances, seeds)
def test_pictures_of_one_box_reach_the_targets_exactly(counts, imbalance, seed):
    whole = box_set([[c] for c, count in enumerate(counts, 1) for _ in range(count)], len(counts))
    assert torch.equal(
        long_tailed(whole, imbalance, seed).counts, tail_targets(whole.counts, imbalance, seed)
    )


def test_a_picture_too_full_for_its_class_is_kept_where_there_is_no_other():
    thin = long_tailed(box_set([[1]] * 50 + [[2] * 9, [2] * 5 + [1]], 2), 50)
    assert thin.counts.tolist() == [51, 5]
    assert thin.left_out == (
        "x: 51 of 52 pictures kept for a long tail in the style of COCO-LT, 51 to 5 boxes a class "
        "(wanted 51 to 1; 0 classes have fewer, 1 more)",
    )


def test_the_seed_decides_which_pictures_stay():
    whole = box_set([[1, 2]] * 30 + [[1]] * 30 + [[3]] * 30, 3)
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
        long_tailed(box_set([[], []]), 10)
    with pytest.raises(ArgumentError, match=r"imbalance: got 0\.1"):
        long_tailed(box_set([[1]]), 0.1)
    with pytest.raises(ArgumentError, match="seed: got -1; expected an integer of at least 0"):
        long_tailed(box_set([[1], [2]]), 2, seed=-1)
