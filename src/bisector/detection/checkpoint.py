"""A detector that was trained here, built again from its checkpoint alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.data.images import PixelRange
from bisector.detection.attaching import attach
from bisector.detection.evaluation.coco_eval import LVIS_MOST
from bisector.detection.models import build_detector, fix_parts
from bisector.detection.module import Detector
from bisector.detection.recipe import BoxRecipe, BoxTask
from bisector.errors import require
from bisector.files import reading
from bisector.training.checkpoints import BEST, LAST, epochs_done, read_selected

WRITER = "bisector detect train"


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A trained detector and what is known of its training."""

    model: Detector  # in evaluation mode
    task: BoxTask
    recipe: BoxRecipe
    head: str  # its spec, as on the command line
    seed: int
    class_names: tuple[str, ...]  # of the classes 1 to C
    train_counts: Tensor  # (C,) boxes in training
    train_image_counts: Tensor  # (C,) pictures in training that show each class
    epochs: int  # that were finished when the checkpoint was written
    unfinished: str  # in words, that it had not ended; "" where it had, or where this is its best epoch
    path: Path  # of the checkpoint
    pixel_range: PixelRange | None = None  # what became 0 and 255; None without pictures of more than 8 bits

    def require_classes(self, boxes: BoxSet) -> None:
        """Raise `ArgumentError` unless these pictures have the classes that it was trained on."""
        same = self.class_names == boxes.class_names
        got = f"{boxes.name} with {len(boxes.class_names)} classes, {', '.join(boxes.class_names[:3])}, ..."
        expected = f"the {len(self.class_names)} of the training, {', '.join(self.class_names[:3])}, ..."
        require(same, "data", got, f"{expected} in this order")

    def detect_like(self, boxes: BoxSet) -> None:
        """Let the model return as many detections of a picture as the rule of these data scores.

        Raises:
            ArgumentError: there is no picture.
        """
        require(len(boxes) > 0, "data", f"no picture in {boxes.name}", "at least one to be scored")
        rois: Any = self.model.network.roi_heads
        rois.detections_per_img = detections_of_picture(boxes, self.recipe) or rois.detections_per_img


def detections_of_picture(boxes: BoxSet, recipe: BoxRecipe) -> int | None:
    """Return how many detections of a picture are kept: those asked for, else LVIS's 300, else the model's own."""
    return recipe.detections or (LVIS_MOST if boxes.style == "lvis" else None)


def build_model(
    description: Mapping[str, Any], *, fixed: Mapping[str, Any] | None = None, truth: BoxSet | None = None
) -> Detector:
    """Return the untrained detector of a description, its weights drawn from the description's seed.

    The network is drawn first: with one seed every head begins from the same one. The caller's random numbers are
    left as they are. With what a checkpoint says that the model held fixed, no weights are loaded from elsewhere.
    """
    recipe = BoxRecipe(**description["recipe"])
    counts = torch.tensor(description["train_counts"])
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.default_generator.manual_seed(description["seed"])
        network = build_detector(
            recipe.model,
            len(counts) + 1,
            image_size=recipe.image_size,
            pretrained=recipe.pretrained and fixed is None,
            pretrained_backbone=recipe.pretrained_backbone and fixed is None,
        )
        rois: Any = network.roi_heads
        rois.score_thresh = recipe.score_threshold
        sampler = rois.fg_bg_sampler
        sampler.batch_size_per_image = recipe.rois or sampler.batch_size_per_image
        rois.detections_per_img = description["detections"] or rois.detections_per_img
        if fixed is not None:
            fix_parts(network, fixed)
        attach(
            network,
            description["head"],
            class_counts=counts,
            objectness=recipe.objectness,
            class_agnostic=recipe.class_agnostic,
            meter_on=recipe.meter_on,
        )
    return Detector(
        network,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        clip_norm=recipe.clip_norm,
        seed=description["seed"],
        truth=truth,
    )


def load_detector(path: Path) -> TrainedDetector:
    """Load a model that ``bisector detect train`` left.

    Args:
        path: a checkpoint, or the folder of a training; of its checkpoints the one that the training selected.

    Raises:
        ArgumentError: there is no checkpoint, or it is none of a detector of bisector's.
    """
    last = path / LAST if path.is_dir() else path
    require(last.is_file(), "model", str(path), "a checkpoint, or the folder of a training that holds one")
    place, stored, newest = read_selected(path, "detector", WRITER)
    with reading(f"model: got {place}; expected a checkpoint that {WRITER} wrote"):
        description, done = newest["bisector"], epochs_done(newest)
        task, recipe = BoxTask(**description["task"]), BoxRecipe(**description["recipe"])
        model = build_model(description, fixed=stored["bisector"]["fixed"])
        model.load_state_dict(stored["state_dict"])
        epochs = epochs_done(stored)
        low, high = description.get("pixel_range", (0, 0))
    ended = last.name == BEST or done >= recipe.epochs
    unfinished = f"{last} is of a training that has done {done} of its {recipe.epochs} epochs"
    return TrainedDetector(
        model=model.eval(),
        task=task,
        recipe=recipe,
        head=description["head"],
        seed=description["seed"],
        class_names=tuple(description["class_names"]),
        train_counts=torch.tensor(description["train_counts"]),
        train_image_counts=torch.tensor(description["train_image_counts"]),
        epochs=epochs,
        unfinished="" if ended else unfinished,
        path=place,
        pixel_range=(low, high) if low < high else None,
    )
