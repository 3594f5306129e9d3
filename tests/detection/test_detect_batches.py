"""Batches of pictures: in the same order whoever makes them, mirrored with their boxes, resumable."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bisector.data.boxes import BoxSet, load_boxes, repeat_factors
from bisector.data.keyed import keyed_permutation
from bisector.detection.data import BoxBatch, BoxBatches, PlainBoxBatches, box_batch
from bisector.errors import ArgumentError
from tiny_boxes import COLOURS, write_voc


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> BoxSet:
    return load_boxes(str(write_voc(tmp_path_factory.mktemp("voc")))).train


def files(batches: Iterable[BoxBatch]) -> list[list[str]]:
    return [batch.files for batch in batches]


def flat(parts: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(parts))


def same(one: BoxBatch, other: BoxBatch) -> bool:
    boxes = (t["boxes"] for t in one.targets), (t["boxes"] for t in other.targets)
    pairs = [*zip(one.images, other.images, strict=True), *zip(*boxes, strict=True)]
    return one.files == other.files and all(torch.equal(a, b) for a, b in pairs)


def test_an_epoch_is_a_permutation_and_the_next_another(train: BoxSet) -> None:
    batches = BoxBatches(train, 5, seed=3)
    assert len(batches) == 4
    first, second = files(batches), files(batches)
    assert list(map(len, first)) == [5, 5, 5, 1]
    order = keyed_permutation(3, 0, len(train)).tolist()
    assert flat(first) == [train[i].file for i in order]
    assert sorted(flat(second)) == sorted(flat(first))
    assert first != second


@pytest.mark.parametrize("taken", [1, 3, 4, 6])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_go_on_where_they_were(train: BoxSet, taken: int, workers: int) -> None:
    whole = BoxBatches(train, 5, seed=1)
    expected = [*whole, *whole]
    cut = BoxBatches(train, 5, seed=1)
    handed = 0
    while handed < taken:
        for _ in cut:
            handed += 1
            state = cut.state_dict()
            if handed == taken:
                break
    again = BoxBatches(train, 5, seed=1, workers=workers)
    again.load_state_dict(state)
    rest = list(again)
    assert len(rest) == 4 - taken % 4
    assert all(map(same, rest, expected[taken:]))


@pytest.mark.parametrize("repeats", [False, True])
def test_processes_share_the_one_order(train: BoxSet, repeats: bool) -> None:
    factors = repeat_factors(train, 1.0) if repeats else None
    alone = flat(files(BoxBatches(train, 1, seed=2, repeats=factors)))
    shares = [
        flat(files(BoxBatches(train, 2, seed=2, repeats=factors, rank=rank, world_size=3)))
        for rank in range(3)
    ]
    assert len({len(share) for share in shares}) == 1
    together = [name for names in zip(*shares, strict=True) for name in names]
    assert together == alone[: len(together)]
    assert len(alone) - len(together) < 3
    counted = [alone.count(picture.file) for picture in train]
    if factors is not None:
        assert all(int(r) <= n <= int(r) + 1 for r, n in zip(factors, counted, strict=True))


def coloured(image: Tensor, colour: tuple[int, int, int]) -> Tensor:
    return (image.float() - torch.tensor(colour)[:, None, None]).abs().amax(0) < 60


def test_boxes_are_mirrored_with_their_pictures(train: BoxSet) -> None:
    mirrored = [True] * len(train)
    plain, flipped = box_batch(train, range(len(train))), box_batch(train, range(len(train)), mirrored)
    for before, after, image in zip(plain.targets, flipped.targets, flipped.images, strict=True):
        width = image.shape[-1]
        old, new = before["boxes"], after["boxes"]
        torch.testing.assert_close(new[:, [0, 2]], width - old[:, [2, 0]])
        assert torch.equal(new[:, [1, 3]], old[:, [1, 3]])
        for box, label in zip(new.long().tolist(), after["labels"].tolist(), strict=True):
            inside = coloured(image, COLOURS[train.class_names[label - 1]])
            left, top, right, bottom = box
            assert inside[top:bottom, left : right - 1].float().mean() > 0.4  # others may cover it


def test_about_half_are_mirrored_and_a_repeated_picture_by_itself(train: BoxSet) -> None:
    factors = torch.full((len(train),), 8.0, dtype=torch.float64)
    drawn: dict[str, list[bool]] = {}
    for batch in BoxBatches(train, 8, seed=0, repeats=factors):
        for file, image in zip(batch.files, batch.images, strict=True):
            index = next(i for i, picture in enumerate(train) if picture.file == file)
            drawn.setdefault(file, []).append(not torch.equal(image, train.image(index)))
    flips = flat(drawn.values())
    assert 0.3 < sum(flips) / len(flips) < 0.7
    assert any(0 < sum(own) < len(own) for own in drawn.values())
    unflipped = BoxBatches(train, 4, seed=0, flip=False)
    assert all(torch.equal(b.images[0], train.image(_index(train, b.files[0]))) for b in unflipped)


def _index(train: BoxSet, file: str) -> int:
    return next(i for i, picture in enumerate(train) if picture.file == file)


def test_crowds_are_not_trained_on(train: BoxSet) -> None:
    busy = max(train, key=lambda picture: len(picture.labels))
    crowd = torch.zeros(len(busy.labels), dtype=torch.bool)
    crowd[0] = True
    marked = BoxSet([replace(busy, crowd=crowd)], train.class_names, name="one", style="voc", root=train.root)
    target = box_batch(marked, [0]).targets[0]
    assert torch.equal(target["boxes"], busy.boxes[1:])
    assert torch.equal(target["labels"], busy.labels[1:])


def test_plain_batches_are_shared_and_too_few_pictures_refused(train: BoxSet) -> None:
    shares = [flat(files(PlainBoxBatches(train, 3, rank=r, world_size=3))) for r in range(3)]
    assert sorted(flat(shares)) == sorted(picture.file for picture in train)
    few = train.subset(range(4))
    for size in (1, 2, 3):  # of DDP every process comes as often, with nothing in its hands if need be
        drawn = [files(PlainBoxBatches(few, size, rank=r, world_size=5)) for r in range(5)]
        assert {len(batches) for batches in drawn} == {1}
        assert flat(flat(drawn)) == [picture.file for picture in few]
    uneven = [files(PlainBoxBatches(train.subset(range(7)), 3, rank=r, world_size=2)) for r in (0, 1)]
    assert [[len(batch) for batch in batches] for batches in uneven] == [[3, 1], [3, 0]]
    assert list(PlainBoxBatches(train.subset([]), 3)) == []
    with pytest.raises(ArgumentError, match="data: got 1 pictures to train on; expected at least 2"):
        BoxBatches(train.subset([0]), 4, seed=0, world_size=2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_lost_file_is_one_line_whoever_reads_it(tmp_path: Path, workers: int) -> None:
    boxes = load_boxes(str(write_voc(tmp_path))).train
    lost = Path(boxes[0].file).name
    (tmp_path / "JPEGImages" / lost).unlink()
    for batches in (
        BoxBatches(boxes, 4, seed=0, workers=workers),
        PlainBoxBatches(boxes, 4, workers=workers),
    ):
        with pytest.raises(ArgumentError, match=lost) as told:
            list(batches)
        assert "Traceback" not in str(told.value)
