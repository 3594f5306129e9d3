from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from bisector.errors import ArgumentError
from scene_cases import load_scenes
from scenes.layout import deal, picture_sizes, tail_counts


@given(some.integers(1, 200), some.integers(0, 5000), some.floats(1, 1000), some.integers(0, 2**20))
def test_tail_counts(classes: int, more: int, imbalance: float, seed: int) -> None:
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    total = classes + more
    counts = tail_counts(total, order, imbalance)
    assert int(counts.sum()) == total
    assert int(counts.min()) >= 1
    in_order = counts[order.argsort()].tolist()
    assert all(before >= after - 1 for before, after in pairwise(in_order))
    exact = [imbalance ** (-rank / max(classes - 1, 1)) for rank in range(classes)]
    exact = [total * share / sum(exact) for share in exact]
    if min(exact) >= 1:
        assert max(abs(count - share) for count, share in zip(in_order, exact, strict=True)) <= 1


@given(some.integers(1, 60), some.integers(1, 5), some.integers(0, 5), some.integers(0, 2**32 - 1))
def test_objects_are_dealt_each_once(pictures: int, fewest: int, more: int, seed: int) -> None:
    sizes = picture_sizes(pictures, fewest, fewest + more, seed, 0)
    assert fewest <= int(sizes.min())
    assert int(sizes.max()) <= fewest + more
    counts = tail_counts(max(int(sizes.sum()), 3), torch.tensor([2, 0, 1]), 10.0)
    sizes[0] += int(counts.sum()) - int(sizes.sum())
    dealt = deal(counts, sizes, seed, 0)
    assert [len(labels) for labels in dealt] == sizes.tolist()
    assert torch.equal(torch.cat(dealt).bincount(minlength=3), counts)


def test_fewer_objects_than_classes() -> None:
    with pytest.raises(
        ArgumentError, match="pictures: got 4 objects in all; expected at least 1 for each of 5"
    ):
        tail_counts(4, torch.arange(5), 2.0)
    assert tail_counts(4, torch.arange(5), 1.0, least=0).tolist() == [1, 1, 1, 1, 0]


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty classes of two squares each."""
    folder: Path = tmp_path_factory.mktemp("squares")
    for number in range(20):
        for design in range(2):
            path = folder / f"class {number:02}" / f"{design}.png"
            path.parent.mkdir(exist_ok=True)
            image = Image.new("RGB", (20, 20), (10 * number, 100 * design, 50))
            image.paste((255, 255, 255), (0, 0, 10, 20))  # a border of one colour would be cut away
            image.save(path)
    return folder


def test_a_long_tail_in_training_and_none_after_it(squares: Path, night: Path) -> None:
    words = f"scenes:objects={squares}:backgrounds={night}:size=64:imbalance=200:fewest=2:most=4"
    data = load_scenes(f"{words}:pictures=600:validation=40:test=60:smallest=0.1:largest=0.2", 5)
    counts = data.train.counts.sort(descending=True).values
    assert 150 <= counts[0] / counts[-1] <= 270  # some objects find no place
    ratios = counts[:-1].log() - counts[1:].log()
    assert float(ratios[:10].max()) < 3 * torch.tensor(200.0).log() / 19
    images = [sum(int((picture.labels == label).any()) for picture in data.train) for label in range(1, 21)]
    words_of = ["r" if many <= 10 else "c" if many <= 100 else "f" for many in images]
    for part in (data.train, data.validation, data.test):
        assert list(part.frequency) == words_of
    assert set(words_of) == {"r", "c", "f"}
    for part in (data.validation, data.test):
        assert int(part.counts.max() - part.counts.min()) <= 3
    assert not torch.equal(load_scenes(words + ":pictures=600", 6).train.counts, data.train.counts)
