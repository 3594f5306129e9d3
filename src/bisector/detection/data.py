"""What a task names, and its batches for the Trainer."""

from typing import Any

from torch import Tensor

from bisector.data.boxes import BoxSet, BoxSplits, load_boxes
from bisector.data.images import PixelRange
from bisector.detection.batches import BoxBatches, PlainBoxBatches
from bisector.detection.recipe import BoxTask
from bisector.errors import missing_extra

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error


def load_box_task(
    task: BoxTask, seed: int, *, need_images: bool = True, pixel_range: PixelRange | None = None
) -> BoxSplits:
    """Load what a task names.

    Args:
        task: the data.
        seed: decides what is drawn: a validation part, the long tail, what a plugin draws.
        need_images: whether image files must be there; without them boxes can only be scored against.
        pixel_range: the scale of pixels of more than 8 bits, where a model was trained with it.

    Raises:
        ArgumentError: the data are not found or can't be used.
    """
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


class BoxData(lightning.LightningDataModule):
    """The training part in resumable batches and the validation part in plain ones, for each process its share.

    Args:
        train: what to train on.
        validation: what to validate on.
        batch_size: pictures of a step, in each process.
        seed: decides order and mirroring.
        repeats: (N,) factors of Repeat Factor Sampling, or None.
        flip: whether to mirror.
        workers: processes that load the data, for each process that trains.
    """

    def __init__(
        self,
        train: BoxSet,
        validation: BoxSet,
        batch_size: int,
        *,
        seed: int,
        repeats: Tensor | None = None,
        flip: bool = True,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.batch_size, self.workers = batch_size, workers
        self._how: dict[str, Any] = {"seed": seed, "repeats": repeats, "flip": flip, "workers": workers}
        self._batches: BoxBatches | None = None
        self._position: dict[str, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the next batch is; Lightning's own memory of it is given back in mid-epoch alone."""
        return {"position": None if self._batches is None else self._batches.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._position = state_dict["position"]

    def train_dataloader(self) -> BoxBatches:
        """Return the training part's batches."""
        before = self._batches
        self._batches = BoxBatches(self.train, self.batch_size, **self._how, **self._share())
        if self._position is not None:
            self._batches.load_state_dict(self._position)
            self._position = None
        elif before is not None:  # the Trainer asks for new batches in the middle of a training
            self._batches.load_state_dict(before.state_dict())
        return self._batches

    def val_dataloader(self) -> Any:
        """Return the validation part's batches."""
        return PlainBoxBatches(self.validation, self.batch_size, workers=self.workers, **self._share())

    def _share(self) -> dict[str, Any]:
        trainer = self.trainer
        if trainer is None:
            return {}
        return {"rank": trainer.global_rank, "world_size": trainer.world_size}
