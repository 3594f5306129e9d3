"""The training of a classifier: one head on one data set."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bisector.data.dataset import Dataset
from bisector.data.fingerprint import fingerprint
from bisector.errors import missing_extra
from bisector.training.checkpoint import build_model, load_trained
from bisector.training.data import DataModule
from bisector.training.evaluate import evaluate
from bisector.training.experiment import Ended, Experiment
from bisector.training.module import Classifier
from bisector.training.recipe import Recipe, Task
from bisector.training.results import Run, read_run

try:
    import lightning
    from lightning.pytorch.callbacks import EarlyStopping
except ImportError as error:
    raise missing_extra("lightning", "train") from error


@dataclass(frozen=True, kw_only=True)
class Classification(Experiment[Classifier, Run]):
    """The training of a classifier.

    Whatever is random is a function of (seed, epoch, index), so that on the CPU the result is bit by bit that of a
    training that was never interrupted.

    Args:
        dataset: what `task` names, loaded with `seed`.
    """

    dataset: Dataset
    task: Task
    recipe: Recipe
    monitor = "val/balanced_accuracy"

    def describe(self, trainer: Mapping[str, str]) -> dict[str, Any]:
        """Return plain values from which the model is built again, and on which its result depends."""
        data = self.dataset
        return {
            "trainer": trainer,
            "precision": self.machine.precision,
            "devices": self.machine.devices,
            "fingerprint": fingerprint(self.task.data, data),
            "task": asdict(self.task),
            "recipe": asdict(self.recipe),
            "head": self.head,
            "seed": self.seed,
            "class_names": list(data.class_names),
            "shape": list(data.shape),
            "train_counts": data.train_counts.tolist(),
            **({"pixel_range": list(data.pixel_range)} if data.pixel_range else {}),
        }

    def model(self, description: dict[str, Any], begun: Mapping[str, Any]) -> Classifier:
        """Return the untrained classifier."""
        return build_model(description, pretrained=self.recipe.pretrained and not begun)

    def batches(self) -> lightning.LightningDataModule:
        """Return the data as the Trainer takes them."""
        return DataModule(
            self.dataset,
            self.recipe.batch_size,
            seed=self.seed,
            augmentation=self.recipe.augment,
            workers=self.machine.workers,
        )

    def class_names(self) -> Sequence[str]:
        """Return the names of the classes."""
        return self.dataset.class_names

    def callbacks(self) -> list[lightning.Callback]:
        """Return what stops the training early, if that is asked for."""
        return [] if self.recipe.patience is None else [_EarlyStopping(self.monitor, self.recipe.patience)]

    def best(self, path: Path) -> tuple[Classifier, int]:
        """Load the best epoch."""
        trained = load_trained(path)
        return trained.model, trained.epochs

    def evaluate(self, model: Classifier, ended: Ended) -> tuple[Run, None]:
        """Return what a comparison keeps; nothing is beside it."""
        history = [info.amount.tolist() for info in ended.history]
        workers = self.machine.workers
        return evaluate(model, self.dataset, self.head, self.seed, history=history, workers=workers), None

    def looked_at(self) -> int:
        """Return how many examples are evaluated beside the steps of a training."""
        data = self.dataset
        return self.recipe.epochs * len(data.validation) + len(data.train) + len(data.test)

    def read(self, path: Path) -> Run:
        """Read the result that a training left."""
        return read_run(path)


class _EarlyStopping(EarlyStopping):
    """Lightning's, which forgets that it has stopped when it is resumed.

    It is checked when the validation ends, and so before the epoch's checkpoint is written.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(monitor, mode="max", patience=patience, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True
