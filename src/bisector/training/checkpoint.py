"""A model that was trained here, built again from its checkpoint alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.data.images import PixelRange
from bisector.errors import require
from bisector.files import reading
from bisector.heads import build_head
from bisector.networks.backbones import build_backbone
from bisector.training.checkpoints import BEST, LAST, epochs_done, read_checkpoint
from bisector.training.module import Classifier
from bisector.training.recipe import Recipe, Task


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained classifier and what is known of its training.

    Args:
        model: backbone and head, in evaluation mode.
        task: what it was trained on.
        recipe: how.
        head: the spec of its head, as on the command line.
        seed: of the training.
        class_names: of the classes 0 to C - 1.
        shape: of one example.
        train_counts: (C,) training instances.
        path: of the checkpoint.
        epochs: that were finished when the checkpoint was written.
        pixel_range: the values of deep pixels that became 0 and 255; None without such images.
    """

    model: Classifier
    task: Task
    recipe: Recipe
    head: str
    seed: int
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    train_counts: Tensor
    path: Path
    epochs: int
    pixel_range: PixelRange | None = None


def build_model(description: dict[str, Any], *, pretrained: bool) -> Classifier:
    """Return the untrained classifier of a description, its weights drawn from the description's seed.

    The backbone is drawn first: with one seed every head begins from the same one.
    """
    recipe, shape = Recipe(**description["recipe"]), tuple(description["shape"])
    torch.manual_seed(description["seed"])
    backbone = build_backbone(recipe.backbone, shape, recipe.embedding_dim, pretrained=pretrained)
    counts = torch.tensor(description["train_counts"])
    head = build_head(description["head"], backbone.embedding_dim, len(counts), counts)
    return Classifier(
        backbone,
        head,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        seed=description["seed"],
    )


def load_trained(path: Path) -> Trained:
    """Load a model that ``bisector train`` or ``bisector compare --keep`` left.

    Args:
        path: a checkpoint, or the folder of a training; of its checkpoints the one that the training selected.

    Raises:
        ArgumentError: there is no checkpoint, or it is none of bisector's.
    """
    last = path / LAST if path.is_dir() else path
    require(last.is_file(), "model", str(path), "a checkpoint, or the folder of a training that holds one")
    place, stored = last, read_checkpoint("model", last)
    with reading(f"model: got {last}; expected a checkpoint that bisector wrote"):
        description = stored["bisector"]
        if description.get("kind") == "detector":
            raise TypeError("it is a detector's")
        task, recipe = Task(**description["task"]), Recipe(**description["recipe"])
        if path.is_dir() and recipe.select == "best" and (path / BEST).is_file():
            place = path / BEST
            stored = read_checkpoint("model", place)
        model = build_model(description, pretrained=False)
        model.load_state_dict(stored["state_dict"])
        epochs = epochs_done(stored)
        low, high = description.get("pixel_range", (0, 0))
    return Trained(
        model=model.eval(),
        task=task,
        recipe=recipe,
        head=description["head"],
        seed=description["seed"],
        class_names=tuple(description["class_names"]),
        shape=tuple(description["shape"]),
        train_counts=torch.tensor(description["train_counts"]),
        path=place,
        epochs=epochs,
        pixel_range=(low, high) if low < high else None,
    )
