"""The training of a classifier, one head on one data set, and the model built again from what it left."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.data.dataset import Dataset
from bisector.data.fingerprint import fingerprint
from bisector.data.images import PixelRange
from bisector.files import reading
from bisector.heads import build_head
from bisector.networks.backbones import build_backbone
from bisector.posthoc import BaseAdjustment
from bisector.records import from_json
from bisector.training._lightning import (
    Callback,
    EarlyStopping,
    LightningDataModule,
    LightningModule,
    Trainer,
)
from bisector.training.checkpoints import LAST, epochs_done, read_selected
from bisector.training.class_weights import weights_of_classes
from bisector.training.data import DataModule
from bisector.training.decision import FILES, load_decision, require_decision
from bisector.training.evaluate import evaluate
from bisector.training.experiment import Ended, Experiment
from bisector.training.exported import WEIGHTS, Stored, read_exported
from bisector.training.module import Classifier
from bisector.training.recipe import DECIDE, Recipe, Task
from bisector.training.results import RESULT, Run, read_result, require_model


@dataclass(frozen=True, kw_only=True)
class Classification(Experiment[Classifier, Run]):
    """The training of a classifier.

    Whatever is random is a function of (seed, epoch, index), so that on the CPU the result is bit by bit that of a
    training that was never interrupted.
    """

    dataset: Dataset  # what `task` names, loaded with `seed`
    task: Task
    recipe: Recipe
    decide: str = (
        DECIDE  # how classes are chosen in the end, one of `DECISIONS`; the weights do not depend on it
    )
    monitor = "val/balanced_accuracy"
    outdated = FILES

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

    def check(self) -> None:
        """Raise for a decision that cannot be made, and for weights of classes that there are not."""
        require_decision(self.decide)
        weights_of_classes(self.recipe.class_weights, self.dataset.class_names, self.dataset.train_counts)

    def is_finished(self, folder: Path, trainer: Mapping[str, Any]) -> bool:
        """Say whether the folder holds the result of this very training, with the decision that is asked for."""
        return self.is_trained(folder, trainer) and is_decided(
            self.read(folder / RESULT), self.decide, folder
        )

    def model(self, description: dict[str, Any], begun: Mapping[str, Any]) -> Classifier:
        """Return the untrained classifier."""
        return build_model(description, pretrained=self.recipe.pretrained and not begun)

    def batches(self) -> LightningDataModule:
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

    def callbacks(self) -> list[Callback]:
        """Return what stops the training early, if that is asked for."""
        return [] if self.recipe.patience is None else [_EarlyStopping(self.monitor, self.recipe.patience)]

    def best(self, path: Path) -> tuple[Classifier, int]:
        """Load the best epoch."""
        trained = load_trained(path)
        return trained.model, trained.epochs

    def evaluate(self, model: Classifier, ended: Ended) -> tuple[Run, BaseAdjustment | None]:
        """Return what a comparison keeps, and the decision, by which the model predicts from now on."""
        run, model.decision = evaluate(
            model,
            self.dataset,
            self.head,
            self.seed,
            history=[info.amount.tolist() for info in ended.history],
            workers=self.machine.workers,
            decide=self.decide,
        )
        return run, model.decision

    def looked_at(self) -> int:
        """Return how many examples are evaluated beside the steps of a training."""
        data = self.dataset
        passes = self.recipe.epochs + (self.decide != "none")
        return passes * len(data.validation) + len(data.train) + len(data.test)

    def read(self, path: Path) -> Run:
        """Read the result that a training left."""
        return read_result(Run, path)


def is_decided(run: Run, decide: str, folder: Path | None) -> bool:
    """Say whether a run has the decision that is asked for, none if none is, and its file is in the folder."""
    decided = run.decided
    if decided is None or decide == "none":
        return decided is None and decide == "none"
    kept = folder is None or not decided.file or (folder / decided.file).is_file()
    return decided.method == decide and kept


class _EarlyStopping(EarlyStopping):
    """Lightning's, which forgets that it has stopped when it is resumed.

    It is checked when the validation ends, and so before the epoch's checkpoint is written.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(monitor, mode="max", patience=patience, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained classifier and what is known of its training."""

    model: Classifier  # backbone and head, in evaluation mode
    task: Task  # what it was trained on
    recipe: Recipe  # how
    head: str  # the spec of its head, as on the command line
    seed: int  # of the training
    class_names: tuple[str, ...]  # of the classes 0 to C - 1
    shape: tuple[int, ...]  # of one example
    train_counts: Tensor  # (C,) training instances
    epochs: int  # that were finished when the checkpoint was written
    # the values of deep pixels that became 0 and 255; None without such images
    pixel_range: PixelRange | None = None
    decision: BaseAdjustment | None = None  # which `model.predict` follows; None where none was fitted
    result: Run | None = None  # that an exported file holds; of a run it is in the folder

    @property
    def followed(self) -> BaseAdjustment | None:
        """The decision that changes scores; None too where nothing was found that gains clearly."""
        return None if self.decision is None or self.decision.method == "none" else self.decision


def build_model(description: dict[str, Any], *, pretrained: bool) -> Classifier:
    """Return the untrained classifier of a description, its weights drawn from the description's seed.

    The backbone is drawn first: with one seed every head begins from the same one.
    """
    recipe, shape = Recipe(**description["recipe"]), tuple(description["shape"])
    torch.manual_seed(description["seed"])
    backbone = build_backbone(recipe.backbone, shape, recipe.embedding_dim, pretrained=pretrained)
    counts = torch.tensor(description["train_counts"])
    weight = weights_of_classes(recipe.class_weights, description["class_names"], counts)
    head = build_head(description["head"], backbone.embedding_dim, len(counts), counts, weight=weight)
    return Classifier(
        backbone,
        head,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        seed=description["seed"],
    )


def load_trained(path: Path | str) -> Trained:
    """Load a model that ``bisector train`` or ``bisector compare --keep`` left, or ``bisector export``.

    Args:
        path: a checkpoint, or the folder of a training; of its checkpoints the one that the training selected,
            with the decision that was fitted to it. A checkpoint alone has none. Or a ``.safetensors`` that was
            exported, with its decision, or a folder with one called ``model.safetensors`` and no checkpoint.

    Raises:
        ArgumentError: there is no such file, or it is none of bisector's.
    """
    path = Path(path)
    alone = path.is_dir() and not (path / LAST).is_file() and (path / WEIGHTS).is_file()
    file = path / WEIGHTS if alone else path / LAST if path.is_dir() else path
    require_model(path)
    if file.suffix.lower() == ".safetensors":
        stored, wrote = read_exported(file), "the safetensors of bisector export"
    else:
        wrote = "a checkpoint that bisector wrote"
        file, held, newest = read_selected(path, "classifier", "bisector")
        decision = load_decision(path) if path.is_dir() else None
        stored = Stored(newest["bisector"], held["state_dict"], epochs_done(held), decision)
    with reading(f"model: got {file}; expected {wrote}"):
        description = dict(stored.description)
        model = build_model(description, pretrained=False)
        model.load_state_dict(stored.weights)
        low, high = description.get("pixel_range") or (0, 0)
        task, recipe = Task(**description["task"]), Recipe(**description["recipe"])
        result = None if stored.result is None else from_json(Run, stored.result)
    model.decision = stored.decision
    return Trained(
        model=model.eval(),
        task=task,
        recipe=recipe,
        head=description["head"],
        seed=description["seed"],
        class_names=tuple(description["class_names"]),
        shape=tuple(description["shape"]),
        train_counts=torch.tensor(description["train_counts"]),
        epochs=stored.epochs,
        pixel_range=(low, high) if low < high else None,
        decision=model.decision,
        result=result,
    )
