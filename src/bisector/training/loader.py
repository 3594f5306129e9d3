"""Batches whose content is a function of (seed, epoch, step): a training that is resumed sees the same numbers."""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bisector.data.augmentation import augment
from bisector.data.dataset import Part
from bisector.data.keyed import keyed_permutation
from bisector.errors import require

Batch = tuple[Tensor, Tensor]
"""Inputs (B, ...) and labels (B,)."""


class Order(Protocol):
    """The keys of an epoch's batches, from the first that is still to come; their length is that of all."""

    epoch: int
    first: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class ResumableBatches(DataLoader[Any]):
    """Batches that an order names by keys; they can be resumed at any of them."""

    def __init__(self, made: Dataset[Any], order: Order, workers: int = 0) -> None:
        self._order = order
        self.epoch = 0
        self.taken = 0  # batches of this epoch that were handed out
        super().__init__(
            made, batch_size=None, sampler=order, num_workers=workers, persistent_workers=workers > 0
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._order.epoch, self._order.first = self.epoch, self.taken
        for batch in super().__iter__():
            # Counted before it is handed out: whoever asks for the state holds the batch already.
            self.taken += 1
            if self.taken == len(self._order):
                self.epoch, self.taken = self.epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return where the next batch is."""
        return {"epoch": self.epoch, "taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there."""
        self.epoch, self.taken = state_dict["epoch"], state_dict["taken"]


class TrainingBatches(ResumableBatches):
    """The training part in an order drawn anew each epoch, augmented; it can be resumed at any batch.

    The order depends on (seed, epoch) and an example's augmentation on (seed, epoch, position): neither on the
    number of workers, nor on how often the training was killed. With several processes each takes every
    ``world_size``-th example of the one order, and all take equally many.

    Args:
        part: what to train on.
        batch_size: examples a batch; the last of an epoch takes what is left, unless that is a single one, which
            batch normalisation could not stand.
        seed: decides order and augmentation.
        augmentation: a policy of `bisector.data.augmentation`.
        workers: processes that make the batches.
        rank: of this process.
        world_size: how many processes train together.
    """

    def __init__(
        self,
        part: Part,
        batch_size: int,
        *,
        seed: int,
        augmentation: str = "none",
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        share = len(part) // world_size
        require(share >= 2, "data", f"{len(part)} examples to train on", f"at least {2 * world_size}")
        order = _Order(len(part), batch_size, seed, rank, world_size)
        super().__init__(_Augmented(part, augmentation, seed), order, workers)


def shares(size: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> list[Tensor]:
    """Return the positions of each batch of a process's share; every process has equally many batches.

    DDP exchanges buffers in every forward, in evaluation too: a process with one batch more than the others would
    wait for them in vain. Where a share has too few positions, its last batches are empty.

    >>> [[batch.tolist() for batch in shares(5, 2, rank=rank, world_size=2)] for rank in (0, 1)]
    [[[0, 2], [4]], [[1, 3], []]]
    """
    positions = torch.arange(size)[rank::world_size]
    batches = math.ceil(math.ceil(size / world_size) / batch_size)
    return [positions[n * batch_size : (n + 1) * batch_size] for n in range(batches)]


def plain_batches(
    part: Part, batch_size: int, *, workers: int = 0, rank: int = 0, world_size: int = 1
) -> Any:
    """Return batches of a part in its own order, without augmentation; each process takes its share (`shares`)."""
    keys = [(0, chunk) for chunk in shares(len(part), batch_size, rank=rank, world_size=world_size)]
    return DataLoader(
        _Augmented(part, "none", 0),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


class _Order:
    """The keys of an epoch's batches: the epoch and positions, all that a worker needs to make one."""

    def __init__(self, size: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.first = 0

    def __len__(self) -> int:
        full, rest = divmod(self.size // self.world_size, self.batch_size)
        return full + (rest > 1)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        order = keyed_permutation(self.seed, self.epoch, self.size)
        share = order[: self.size // self.world_size * self.world_size][self.rank :: self.world_size]
        for chunk in torch.split(share, self.batch_size)[self.first : len(self)]:
            yield self.epoch, chunk


class _Augmented(Dataset[Batch]):
    """Makes the batch of a key."""

    def __init__(self, part: Part, augmentation: str, seed: int) -> None:
        self.part, self.augmentation, self.seed = part, augmentation, seed

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, key: tuple[int, Tensor]) -> Batch:
        epoch, positions = key
        inputs = self.part.examples.batch(positions)
        return augment(inputs, self.augmentation, self.seed, epoch, positions), self.part.labels[positions]
