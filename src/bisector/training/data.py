"""DataModule: the batches of a data set, for the Trainer."""

from typing import Any

from bisector.data.augmentation import POLICIES
from bisector.data.dataset import Dataset
from bisector.data.registry import load
from bisector.errors import missing_extra, require, require_choice
from bisector.training.loader import TrainingBatches, plain_batches
from bisector.training.recipe import Task

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error


def augmentation_of(dataset: Dataset, word: str) -> str:
    """Return the policy that a word names: one of `bisector.data.augmentation`, or what suits the data for "auto".

    Raises:
        ArgumentError: it is none of them.
    """
    require_choice("augment", word, ("auto", *POLICIES))
    policy = dataset.augmentation if word == "auto" else word
    fits = policy == "none" or len(dataset.shape) == 3
    require(fits, "augment", f"{word!r} for vectors", "none: only images are varied")
    return policy


def load_task(task: Task, seed: int) -> Dataset:
    """Load what a task names.

    Raises:
        ArgumentError: the data are not found or can't be used.
    """
    return load(task.data, imbalance=task.imbalance, seed=seed, split=task.split, image_size=task.image_size)


class DataModule(lightning.LightningDataModule):
    """The training part in resumable batches and the validation part in plain ones, for each process its share.

    Args:
        dataset: what to train on.
        batch_size: examples of a step, in each process.
        seed: decides order and augmentation.
        augmentation: a policy of `bisector.data.augmentation`, or "auto" for what suits the data.
        workers: processes that load the data, for each process that trains.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, *, seed: int, augmentation: str = "auto", workers: int = 0
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation_of(dataset, augmentation)
        self.workers = workers
        self._batches: TrainingBatches | None = None
        self._position: dict[str, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the next batch is.

        Lightning would store it too, but gives it back only where an epoch was not finished.
        """
        return {"position": None if self._batches is None else self._batches.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._position = state_dict["position"]

    def train_dataloader(self) -> TrainingBatches:
        """Return the training part's batches."""
        before = self._batches
        self._batches = TrainingBatches(
            self.dataset.train,
            self.batch_size,
            seed=self.seed,
            augmentation=self.augmentation,
            workers=self.workers,
            **self._share(),
        )
        if self._position is not None:
            self._batches.load_state_dict(self._position)
            self._position = None
        elif before is not None:  # the Trainer asks for new batches in the middle of a training
            self._batches.load_state_dict(before.state_dict())
        return self._batches

    def val_dataloader(self) -> Any:
        """Return the validation part's batches."""
        size = max(self.batch_size, 256)
        return plain_batches(self.dataset.validation, size, workers=self.workers, **self._share())

    def _share(self) -> dict[str, int]:
        trainer = self.trainer
        if trainer is None:
            return {}
        return {"rank": trainer.global_rank, "world_size": trainer.world_size}
