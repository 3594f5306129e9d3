"""Train a detector: one head on one set of boxes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import distributed

from bisector.data.boxes import BoxSplits, repeat_factors
from bisector.detection.checkpoint import build_model, detections_of_picture, load_detector
from bisector.detection.data import BoxData
from bisector.detection.evaluation import BoxAccuracy, BoxScores, Detections, evaluate_boxes
from bisector.detection.models import fixed_parts
from bisector.detection.module import Detector
from bisector.detection.predict import classify_truth, detect, gathered
from bisector.detection.recipe import PRECISIONS, BoxRecipe, BoxTask
from bisector.errors import missing_extra, require, require_choice
from bisector.information.distributed import several_processes
from bisector.training.experiment import Ended, Experiment
from bisector.training.precision import on_cpu
from bisector.training.results import read_result

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error

BACKGROUND = "(background)"


@dataclass(frozen=True)
class BoxResult:
    """One detector trained with one seed and scored."""

    head: str  # as on the command line, such as "igam:preset=paper"
    seed: int
    model: str  # name of the detector
    data: str  # what it was trained on
    part: str  # that was scored, "test" or "validation"
    scores: BoxScores
    seconds: float = math.nan  # that training and scoring took
    epochs: int = 0  # that were trained
    classified: BoxAccuracy | None = None  # how well the true boxes were classified, None where nobody looked
    adjustment: str | None = None  # how its scores were moved before they were scored
    amount_history: list[list[float]] = field(default_factory=list)  # (refreshes, C) bits, NaN where unknown


@dataclass(frozen=True, kw_only=True)
class Detection(Experiment[Detector, BoxResult]):
    """The training of a detector, scored on the test part, or on validation where there is no other.

    Whatever is random is a function of (seed, epoch, step), so that on one thread of the CPU the result is bit by
    bit that of a training that was never interrupted.

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
        train = self.splits.train
        return {
            "kind": "detector",
            "trainer": dict(trainer),
            "precision": self.machine.precision,
            "devices": self.machine.devices,
            "fingerprint": self.splits.fingerprint(),
            "task": asdict(self.task),
            "recipe": asdict(self.recipe),
            "head": self.head,
            "seed": self.seed,
            "class_names": list(train.class_names),
            "train_counts": train.counts.tolist(),
            "train_image_counts": train.image_counts.tolist(),
            "detections": detections_of_picture(train, self.recipe),
            **({"pixel_range": list(train.pixel_range)} if train.pixel_range else {}),
        }

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
        return {**description, "fixed": fixed_parts(model.network)}

    def batches(self) -> lightning.LightningDataModule:
        """Return the pictures as the Trainer takes them."""
        recipe, threshold = self.recipe, self.recipe.repeat_threshold
        return BoxData(
            self.splits,
            recipe.batch_size,
            seed=self.seed,
            repeats=repeat_factors(self.splits.train, threshold) if threshold else None,
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
            "deterministic": "warn" if on_cpu(self.machine) else False,
        }

    def best(self, path: Path) -> tuple[Detector, int]:
        """Load the best epoch."""
        chosen = load_detector(path)
        return chosen.model, chosen.epochs

    def evaluate(self, model: Detector, ended: Ended) -> tuple[BoxResult, list[Detections]]:
        """Return the scores, and what was detected in the part that is scored."""
        truth, train = self.splits.truth, self.splits.train
        if several_processes():
            # Statistics of batch norms are each process's own. DDP gives all those of the first, which writes the
            # checkpoints, before every forward, and so not after the last step.
            for buffer in model.network.buffers():
                distributed.broadcast(buffer, 0)
        how: dict[str, Any] = {
            "batch_size": self.recipe.batch_size,
            "workers": self.machine.workers,
            "rank": ended.trainer.global_rank,
            "world_size": ended.trainer.world_size,
        }
        by_image = {one.image: one for one in gathered(detect(model.network, truth, **how))}
        found = [by_image[picture.id] for picture in truth]
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
            note = (
                f"the weights are those of epoch {ended.kept}, the best of {ended.epochs} on these very pictures: "
                "on others it may score less"
            )
            scores = replace(scores, notes=(*scores.notes, note))
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
        return read_result(BoxResult, path)
