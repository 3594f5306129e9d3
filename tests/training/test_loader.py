import multiprocessing
import sys
import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.data.dataset import Part
from bisector.data.examples import InMemory
from bisector.errors import ArgumentError
from bisector.training.loader import TrainingBatches, plain_batches
from bisector.training.runner import quiet_lightning


def part(size: int) -> Part:
    images = torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Part(InMemory(images), torch.arange(size))


def epochs(batches: TrainingBatches, count: int) -> list[list[list[int]]]:
    return [[labels.tolist() for _, labels in batches] for _ in range(count)]


@given(size=st.integers(2, 60), batch=st.integers(2, 20), seed=st.integers(0, 2**40))
def test_every_epoch_has_every_example_once_but_a_single_one_left_over(
    size: int, batch: int, seed: int
) -> None:
    first, second = epochs(TrainingBatches(part(size), batch, seed=seed), 2)
    for epoch in (first, second):
        drawn = [label for labels in epoch for label in labels]
        assert len(set(drawn)) == len(drawn) == size - (size % batch == 1)
        assert all(len(labels) > 1 for labels in epoch)
    assert first != second or size < 8
    assert epochs(TrainingBatches(part(size), batch, seed=seed), 2) == [first, second]


@given(size=st.integers(8, 40), taken=st.integers(0, 30), seed=st.integers(0, 9))
def test_it_goes_on_at_any_batch(size: int, taken: int, seed: int) -> None:
    whole = TrainingBatches(part(size), 3, seed=seed, augmentation="crop-flip")
    expected = [batch for _ in range(12) for batch in whole]
    begun = TrainingBatches(part(size), 3, seed=seed, augmentation="crop-flip")
    seen = 0
    while seen < taken:
        for _ in begun:
            seen += 1
            if seen == taken:
                break
    resumed = TrainingBatches(part(size), 3, seed=seed, augmentation="crop-flip")
    resumed.load_state_dict(begun.state_dict())
    rest = [batch for _ in range(3) for batch in resumed]
    for one, other in zip(rest, expected[taken:], strict=False):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@given(size=st.integers(8, 50), world=st.integers(2, 4), batch=st.integers(2, 9))
def test_processes_share_an_epoch_evenly_and_disjointly(size: int, world: int, batch: int) -> None:
    shares = [
        [
            label
            for _, labels in TrainingBatches(part(size), batch, seed=1, rank=rank, world_size=world)
            for label in labels.tolist()
        ]
        for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    drawn = [label for share in shares for label in share]
    assert len(set(drawn)) == len(drawn)
    alone = [label for _, labels in TrainingBatches(part(size), size, seed=1) for label in labels.tolist()]
    joint = [label for labels in zip(*shares, strict=True) for label in labels]
    assert joint == alone[: len(joint)]


@pytest.mark.slow
def test_workers_change_no_number() -> None:
    alone, helped = (
        TrainingBatches(part(50), 7, seed=3, augmentation="crop-flip", workers=workers) for workers in (0, 2)
    )
    for _ in range(2):
        for one, other in zip(alone, helped, strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])


def test_plain_batches_keep_the_order_and_miss_none() -> None:
    drawn = [labels.tolist() for _, labels in plain_batches(part(10), 4)]
    assert drawn == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shares = [
        [*torch.cat([y for _, y in plain_batches(part(10), 2, rank=r, world_size=3)])] for r in range(3)
    ]
    assert sorted(int(label) for share in shares for label in share) == list(range(10))
    uneven = [[len(y) for _, y in plain_batches(part(7), 3, rank=r, world_size=2)] for r in range(2)]
    assert uneven == [[3, 1], [3, 0]]  # DDP waits for every process in every batch


def test_a_loader_that_dies_while_it_takes_a_tensor_is_not_told_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The thread of multiprocessing that shares tensors calls the excepthook; the loader itself tells the rest."""

    def shares(error: Exception) -> None:
        thread = threading.Thread(target=lambda: sys.excepthook(type(error), error, None))
        thread.start()
        thread.join()

    with quiet_lightning():
        shares(ConnectionResetError())
        assert capsys.readouterr().err == ""
        shares(ValueError("another"))
        assert "ValueError: another" in capsys.readouterr().err
    shares(ConnectionResetError())
    assert "ConnectionResetError" in capsys.readouterr().err


def ends_early() -> None:
    """What multiprocessing raises where the process at the other end was killed."""
    here, there = multiprocessing.Pipe()
    there.close()
    here.recv()


def is_killed() -> None:
    raise RuntimeError("DataLoader worker (pid 7) is killed")


@pytest.mark.parametrize("fails", [is_killed, ends_early])
def test_a_loader_that_dies_is_one_line_also_while_it_hands_a_tensor_over(fails: Callable[[], None]) -> None:
    with (
        pytest.raises(ArgumentError, match="workers: a process that loads data was killed"),
        quiet_lightning(),
    ):
        fails()


@pytest.mark.parametrize(
    "error", [EOFError("shard-07.pkl"), ConnectionResetError("a logger"), BrokenPipeError()]
)
def test_what_ends_or_breaks_elsewhere_is_told_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), quiet_lightning():
        raise error
    with pytest.raises(RuntimeError, match="another"), quiet_lightning():
        raise RuntimeError("another")
