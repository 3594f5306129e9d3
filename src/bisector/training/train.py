"""Train a classifier: one head on one data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisector.data.dataset import Dataset
from bisector.errors import missing_extra
from bisector.training.checkpoint import build_model, describe, load_trained
from bisector.training.data import DataModule
from bisector.training.evaluate import evaluate
from bisector.training.experiment import Ended, Experiment
from bisector.training.module import Classifier
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import Run, read_run
from bisector.training.runner import Progress

try:
    import lightning
    from lightning.pytorch.callbacks import EarlyStopping
except ImportError as error:
    raise missing_extra("lightning", "train") from error


@dataclass(frozen=True, kw_only=True)
class Classification(Experiment[Classifier, Run]):
    """The training of a classifier.

    Args:
        dataset: what `task` names, loaded with `seed`.
    """

    dataset: Dataset
    task: Task
    recipe: Recipe
    monitor = "val/balanced_accuracy"

    def describe(self, trainer: Mapping[str, str]) -> dict[str, Any]:
        """Return plain values from which the model is built again, and on which its result depends."""
        return describe(
            self.task, self.recipe, self.head, self.seed, self.dataset, machine=self.machine, trainer=trainer
        )

    def model(self, description: dict[str, Any], begun: Mapping[str, Any]) -> Classifier:
        """Return the untrained classifier."""
        return build_model(description, pretrained=self.recipe.pretrained and not begun)

    def batches(self) -> lightning.LightningDataModule:
        """Return the data as the Trainer takes them."""
        recipe = self.recipe
        return DataModule(
            self.dataset,
            recipe.batch_size,
            seed=self.seed,
            augmentation=recipe.augment,
            workers=self.machine.workers,
        )

    def class_names(self) -> Sequence[str]:
        """Return the names of the classes."""
        return self.dataset.class_names

    def callbacks(self) -> list[lightning.Callback]:
        """Return what stops the training early, if that is asked for."""
        return [] if self.recipe.patience is None else [_EarlyStopping(self.recipe.patience)]

    def best(self, path: Path) -> tuple[Classifier, int]:
        """Load the best epoch."""
        trained = load_trained(path)
        return trained.model, trained.epochs

    def evaluate(self, model: Classifier, ended: Ended) -> tuple[Run, None]:
        """Return what a comparison keeps; nothing is beside it."""
        history = [info.amount.tolist() for info in ended.history]
        run = evaluate(
            model, self.dataset, self.head, self.seed, history=history, workers=self.machine.workers
        )
        return run, None

    def looked_at(self) -> int:
        """Return how many examples are evaluated beside the steps of a training."""
        data = self.dataset
        return self.recipe.epochs * len(data.validation) + len(data.train) + len(data.test)

    def read(self, path: Path) -> Run:
        """Read the result that a training left."""
        return read_run(path)


def train(
    dataset: Dataset,
    task: Task,
    head: str,
    recipe: Recipe,
    *,
    seed: int = 0,
    machine: Machine | None = None,
    folder: Path | None = None,
    trainer: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Classifier, Run]:
    """Train one head on a data set and evaluate it.

    With a folder, everything is kept there, and a training that was begun there is gone on with (`Experiment.run`).
    Whatever is random is a function of (seed, epoch, index), so that on the CPU the result is bit by bit that of a
    training that was never interrupted.

    Args:
        dataset: what `task` names, loaded with `seed`.
        task: for the record.
        head: spec, such as "igam:preset=paper".
        recipe: how to train.
        seed: decides the first weights, the order and the augmentation.
        machine: with which means; the defaults if None.
        folder: where to keep it; nothing is kept if None.
        trainer: further arguments of Lightning's Trainer, which win over ours.
        progress: told after every epoch.

    Returns:
        The model in evaluation mode, and its result.

    Raises:
        ArgumentError: an option is not legal, or the folder holds a training with other settings.
        DivergedError: the loss, a weight or an embedding is not finite.
    """
    experiment = Classification(
        dataset=dataset, task=task, head=head, recipe=recipe, seed=seed, machine=machine or Machine()
    )
    model, run, _ = experiment.run(folder, trainer, progress)
    return model, run


class _EarlyStopping(EarlyStopping):
    """Lightning's, which forgets that it has stopped when it is resumed.

    It is checked when the validation ends, and so before the epoch's checkpoint is written.
    """

    def __init__(self, patience: int) -> None:
        super().__init__(
            "val/balanced_accuracy", mode="max", patience=patience, check_on_train_epoch_end=False
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True
