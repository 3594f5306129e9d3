"""Batches of pictures and boxes that are a function of (seed, epoch, step), for the Trainer and in plain order."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bisector.data.boxes import BoxSet, BoxSplits, epoch_order, load_boxes
from bisector.data.images import PixelRange
from bisector.data.keyed import keyed_permutation, keyed_uniform
from bisector.detection.recipe import BoxTask
from bisector.errors import ArgumentError, missing_extra, require
from bisector.training.loader import ResumableBatches, shares

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error


def load_box_task(
    task: BoxTask, seed: int, *, need_images: bool = True, pixel_range: PixelRange | None = None
) -> BoxSplits:
    """Load what a task names, as `bisector.data.boxes.load_boxes` does."""
    return load_boxes(
        task.data,
        images=task.images,
        validation=task.validation,
        validation_images=task.validation_images,
        seed=seed,
        imbalance=task.imbalance,
        need_images=need_images,
        pixel_range=pixel_range,
    )


class BoxBatch(NamedTuple):
    """B pictures with their boxes, as torchvision's detectors take them.

    Attributes:
        images: B of (3, H, W) uint8 RGB; the detector gets them as `pixels` makes them, on its device.
        targets: B dicts of "boxes" (n, 4), "labels" (n,) and "image_id".
        files: B names, for messages.
    """

    images: list[Tensor]
    targets: list[dict[str, Any]]
    files: list[str]


def pixels(images: Sequence[Tensor]) -> list[Tensor]:
    """Return pictures of bytes as float32 from 0 to 1.

    >>> pixels([torch.full((3, 1, 1), 255, dtype=torch.uint8)])[0].flatten()
    tensor([1., 1., 1.])
    """
    return [image.float() / 255 for image in images]


def box_batch(boxes: BoxSet, positions: Sequence[int], mirrored: Sequence[bool] | None = None) -> BoxBatch:
    """Return pictures at these positions of a set, some mirrored, with the boxes that are no crowd.

    Raises:
        ArgumentError: a file is missing or broken.
    """
    images, targets = [], []
    for place, index in enumerate(positions):
        picture = boxes[index]
        there = ~picture.crowd
        image, corners = boxes.image(index), picture.boxes[there]
        if mirrored is not None and mirrored[place]:
            image = image.flip(-1)
            left, top, right, bottom = corners.unbind(1)
            corners = torch.stack([picture.width - right, top, picture.width - left, bottom], dim=1)
        images.append(image)
        targets.append({"boxes": corners, "labels": picture.labels[there], "image_id": picture.id})
    return BoxBatch(images, targets, [boxes[index].file for index in positions])


class BoxBatches(ResumableBatches):
    """The training pictures in an order drawn anew each epoch, every other one mirrored; resumable at any batch.

    The order is a function of (seed, epoch), mirroring one of (seed, epoch, place in the order): neither of the
    workers, nor of how often the training was killed. With several processes each takes every ``world_size``-th
    picture of the one order, and all take equally many. `repeats` are (N,) factors of Repeat Factor Sampling.

    Raises:
        ArgumentError: there are fewer pictures than processes.
    """

    def __init__(
        self,
        boxes: BoxSet,
        batch_size: int,
        *,
        seed: int,
        repeats: Tensor | None = None,
        flip: bool = True,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        enough = len(boxes) >= world_size
        require(enough, "data", f"{len(boxes)} pictures to train on", f"at least {world_size}")
        order = _Order(len(boxes), batch_size, seed, repeats, rank, world_size)
        super().__init__(_Batches(boxes, seed, flip), order, workers)

    def __iter__(self) -> Iterator[BoxBatch]:  # type: ignore[override]
        yield from map(_raised, super().__iter__())


class PlainBoxBatches(DataLoader[Any]):
    """The pictures of a set in its own order, as they are; each process takes its share in equally many batches.

    The last batches of a smaller share may be empty; see `bisector.training.loader.shares`.

    Attributes:
        positions: of the pictures of each batch.
    """

    def __init__(
        self, boxes: BoxSet, batch_size: int, *, workers: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.positions = shares(len(boxes), batch_size, rank=rank, world_size=world_size)
        keys = [(0, chunk, chunk) for chunk in self.positions]
        super().__init__(_Batches(boxes, 0, flip=False), batch_size=None, sampler=keys, num_workers=workers)

    def __iter__(self) -> Iterator[BoxBatch]:  # type: ignore[override]
        yield from map(_raised, super().__iter__())


Key = tuple[int, Tensor, Tensor]
"""Epoch, places in its order, positions in the set: all that a worker needs to make a batch."""


class _Order:
    """The keys of an epoch's batches, from the first that is still to come."""

    def __init__(
        self, size: int, batch_size: int, seed: int, repeats: Tensor | None, rank: int, world_size: int
    ) -> None:
        self.size, self.batch_size, self.seed, self.repeats = size, batch_size, seed, repeats
        self.rank, self.world_size = rank, world_size
        self.epoch = self.first = 0
        self.share = len(self._drawn(0)) // world_size  # of every epoch

    def __len__(self) -> int:
        return math.ceil(self.share / self.batch_size)

    def __iter__(self) -> Iterator[Key]:
        drawn = self._drawn(self.epoch)
        places = torch.arange(self.share * self.world_size)[self.rank :: self.world_size]
        for chunk in torch.split(places, self.batch_size)[self.first :]:
            yield self.epoch, chunk, drawn[chunk]

    def _drawn(self, epoch: int) -> Tensor:
        if self.repeats is None:
            return keyed_permutation(self.seed, epoch, self.size)
        return epoch_order(self.repeats, self.seed, epoch)


class _Batches(Dataset["BoxBatch | ArgumentError"]):
    """Makes the batch of a key, or says why it can't: raised in a worker, an error comes as a traceback."""

    def __init__(self, boxes: BoxSet, seed: int, flip: bool) -> None:
        self.boxes, self.seed, self.flip = boxes, seed, flip

    def __getitem__(self, key: Key) -> BoxBatch | ArgumentError:
        epoch, places, positions = key
        mirrored = None
        if self.flip:
            mirrored = (keyed_uniform(self.seed, epoch, places, 1, "flip")[:, 0] < 0.5).tolist()
        try:
            return box_batch(self.boxes, positions.tolist(), mirrored)
        except ArgumentError as error:
            return error


def _raised(batch: BoxBatch | ArgumentError) -> BoxBatch:
    if isinstance(batch, ArgumentError):
        raise batch
    return batch


class BoxData(lightning.LightningDataModule):
    """The training part in resumable batches and the validation part in plain ones, for each process its share.

    The further arguments are those of `BoxBatches`.
    """

    def __init__(self, splits: BoxSplits, batch_size: int, *, workers: int = 0, **how: Any) -> None:
        super().__init__()
        self.splits, self.batch_size, self.workers, self._how = splits, batch_size, workers, how
        self._batches: BoxBatches | None = None
        self._position: dict[str, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the next batch is; Lightning's own memory of it is given back in mid-epoch alone."""
        return {"position": None if self._batches is None else self._batches.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._position = state_dict["position"]

    def train_dataloader(self) -> BoxBatches:
        """Return the training part's batches, from where those before them were."""
        position = self.state_dict()["position"] if self._position is None else self._position
        how = {"workers": self.workers, **self._how, **self._share()}
        self._batches, self._position = BoxBatches(self.splits.train, self.batch_size, **how), None
        if position is not None:
            self._batches.load_state_dict(position)
        return self._batches

    def val_dataloader(self) -> Any:
        """Return the validation part's batches."""
        boxes = self.splits.validation
        return PlainBoxBatches(boxes, self.batch_size, workers=self.workers, **self._share())

    def _share(self) -> dict[str, Any]:
        trainer = self.trainer
        if trainer is None:
            return {}
        return {"rank": trainer.global_rank, "world_size": trainer.world_size}
