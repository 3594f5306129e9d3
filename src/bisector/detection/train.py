"""Train a detector: one head on one set of boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bisector.data.boxes import BoxSplits, repeat_factors
from bisector.detection.checkpoint import build_model, describe, load_detector, with_fixed
from bisector.detection.data import BoxData
from bisector.detection.evaluation import Detections, evaluate_boxes
from bisector.detection.measure import classify_truth
from bisector.detection.module import Detector
from bisector.detection.predict import detect, gathered, in_order, share_buffers
from bisector.detection.recipe import PRECISIONS, BoxRecipe, BoxTask
from bisector.detection.results import BoxResult
from bisector.errors import missing_extra, require, require_choice
from bisector.training.experiment import Ended, Experiment
from bisector.training.recipe import Machine
from bisector.training.runner import Progress

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error

BACKGROUND = "(background)"


@dataclass(frozen=True, kw_only=True)
class Detection(Experiment[Detector, BoxResult]):
    """The training of a detector.

    Args:
        splits: what `task` names, loaded with `seed`.
    """

    splits: BoxSplits
    task: BoxTask
    recipe: BoxRecipe
    monitor = "val/ap50"

    @property
    def part(self) -> str:
        """The part that is scored: test, or validation where there is no other."""
        return "validation" if self.splits.test is None else "test"

    def describe(self, trainer: Mapping[str, str]) -> dict[str, Any]:
        """Return plain values from which the model is built again, and on which its result depends."""
        require_choice("precision", self.machine.precision, PRECISIONS)
        return describe(
            self.splits, self.task, self.head, self.recipe, self.seed, machine=self.machine, trainer=trainer
        )

    def check(self) -> None:
        """Raise `ArgumentError` for data that cannot be learned from or scored."""
        train = self.splits.train
        alone = self.recipe.objectness and len(train.class_names) == 1
        without = "no objectness: beside it there is nothing to classify"
        require(not alone, "objectness", "it with one class", without)
        require(bool(train.counts.sum()), "data", "no box to train on", "at least one that is no crowd")
        for name, boxes in (("validation", self.splits.validation), (self.part, self.splits.truth)):
            require(len(boxes) > 0, "data", f"no picture in the {name} part", "at least one")

    def model(self, description: dict[str, Any], begun: Mapping[str, Any]) -> Detector:
        """Return the untrained detector."""
        return build_model(description, fixed=begun.get("fixed"), truth=self.splits.validation)

    def noted(self, description: dict[str, Any], model: Detector) -> dict[str, Any]:
        """Return the description with what the model holds fixed."""
        return with_fixed(description, model)

    def batches(self) -> lightning.LightningDataModule:
        """Return the pictures as the Trainer takes them."""
        train, recipe = self.splits.train, self.recipe
        repeats = repeat_factors(train, recipe.repeat_threshold) if recipe.repeat_threshold else None
        return BoxData(
            train,
            self.splits.validation,
            recipe.batch_size,
            seed=self.seed,
            repeats=repeats,
            flip=recipe.flip,
            workers=self.machine.workers,
        )

    def class_names(self) -> Sequence[str]:
        """Return the names of the head's classes: the background is one, unless objectness is scored apart."""
        names = self.splits.train.class_names
        return names if self.recipe.objectness else (BACKGROUND, *names)

    def trainer_options(self) -> dict[str, Any]:
        """Return options of the Trainer for a detector."""
        return {
            "check_val_every_n_epoch": self.recipe.validate_every,
            # Torchvision pools regions in a slow way of its own where a GPU is asked for determinism.
            "deterministic": "warn" if _on_cpu(self.machine) else False,
        }

    def best(self, path: Path) -> tuple[Detector, int]:
        """Load the best epoch."""
        chosen = load_detector(path)
        return chosen.model, chosen.epochs

    def evaluate(self, model: Detector, ended: Ended) -> tuple[BoxResult, list[Detections]]:
        """Return the scores, and what was detected in the part that is scored."""
        truth, train = self.splits.truth, self.splits.train
        share_buffers(model.network)
        how: dict[str, Any] = {
            "batch_size": self.recipe.batch_size,
            "workers": self.machine.workers,
            "rank": ended.trainer.global_rank,
            "world_size": ended.trainer.world_size,
        }
        found = in_order(gathered(detect(model.network, truth, **how)), truth)
        history = [info.amount[len(self.class_names()) - len(truth.class_names) :] for info in ended.history]
        measured = history[: ended.kept]
        scores = evaluate_boxes(
            truth,
            found,
            train_counts=train.counts,
            train_image_counts=train.image_counts,
            amounts=measured[-1] if measured else None,
        )
        if ended.chosen and truth is self.splits.validation:
            told = (
                f"the weights are those of epoch {ended.kept}, the best of {ended.epochs} on these very pictures: "
                "on others it may score less"
            )
            scores = replace(scores, notes=(*scores.notes, told))
        result = BoxResult(
            head=self.head,
            seed=self.seed,
            model=self.recipe.model,
            data=self.task.data,
            part=self.part,
            scores=scores,
            classified=classify_truth(model.network, truth, scores.class_frequency, **how),
            amount_history=[amounts.tolist() for amounts in history],
        )
        return result, found

    def looked_at(self) -> int:
        """Return how many pictures are evaluated beside the steps; those that are scored, twice."""
        validations = self.recipe.epochs // self.recipe.validate_every
        return validations * len(self.splits.validation) + 2 * len(self.splits.truth)

    def read(self, path: Path) -> BoxResult:
        """Read the result that a training left."""
        return BoxResult.read(path)


def train_detector(
    splits: BoxSplits,
    task: BoxTask,
    head: str,
    recipe: BoxRecipe,
    *,
    seed: int = 0,
    machine: Machine | None = None,
    folder: Path | None = None,
    trainer: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Detector, BoxResult, list[Detections]]:
    """Train a detector with one head and score it on the test part, or on validation where there is no other.

    With a folder, everything is kept there, and a training that was begun there is gone on with (`Experiment.run`).
    Whatever is random is a function of (seed, epoch, step), so that on one thread of the CPU the result is bit by
    bit that of a training that was never interrupted.

    Args:
        splits: what `task` names, loaded with `seed`.
        task: for the record.
        head: spec, such as "igam:preset=paper"; "linear" is torchvision's own loss.
        recipe: how to train.
        seed: decides the first weights, the order, mirroring and what each step draws.
        machine: with which means; the defaults if None.
        folder: where to keep it; nothing is kept if None.
        trainer: further arguments of Lightning's Trainer, which win over ours.
        progress: told after every epoch.

    Returns:
        The model in evaluation mode, its result, and what it detected in the part that was scored.

    Raises:
        ArgumentError: an option is not legal, a picture can't be read, a loss is not finite, or the folder holds a
            training with other settings.
    """
    experiment = Detection(
        splits=splits, task=task, head=head, recipe=recipe, seed=seed, machine=machine or Machine()
    )
    return experiment.run(folder, trainer, progress)


def _on_cpu(machine: Machine) -> bool:
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return machine.accelerator == "cpu" or (machine.accelerator == "auto" and not accelerated)
