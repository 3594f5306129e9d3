"""The cells of a comparison of classifiers."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bisector.data.dataset import Dataset
from bisector.training.cells import Cell
from bisector.training.data import load_task
from bisector.training.evaluate import embed
from bisector.training.experiment import Experiment
from bisector.training.module import Classifier
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import RESULT, Plane, Run, read_plane, read_run
from bisector.training.train import Classification

PLANE_EPOCHS = 3  # how many times as long a two-dimensional embedding is trained


@dataclass(frozen=True)
class ClassifierCell(Cell[Classifier, Any]):
    """One training of a comparison of classifiers.

    Args:
        plane: whether it is trained with a two-dimensional embedding, to be drawn.
    """

    task: Task
    recipe: Recipe
    plane: bool = False

    @property
    def epochs(self) -> int:
        """How many epochs it is trained for."""
        return self.recipe.epochs * (PLANE_EPOCHS if self.plane else 1)

    def experiment(self, machine: Machine, cells: Path | None = None) -> Experiment[Classifier, Run]:
        """Return the training, its data loaded."""
        recipe = self.recipe
        if self.plane:  # ten classes find their places on a circle slowly
            recipe = replace(recipe, embedding_dim=2, epochs=self.epochs)
        return Classification(
            dataset=_load(self.task, self.seed, self.recipe.backbone, self.fingerprint, cells),
            task=self.task,
            head=self.head,
            recipe=recipe,
            seed=self.seed,
            machine=machine,
        )

    def read(self, folder: Path) -> Run | Plane:
        """Read what the training left in its folder."""
        return read_plane(folder / RESULT) if self.plane else read_run(folder / RESULT)

    def record(self, experiment: Any, model: Classifier, result: Run) -> Run | Plane:
        """Return what is kept of the training."""
        return _plane(model, experiment.dataset, self.head) if self.plane else result

    def _kind(self) -> str:
        return "-plane" if self.plane else ""


@lru_cache(maxsize=1)  # cells come seed by seed, and all heads of a seed have the same data
def _load(task: Task, seed: int, backbone: str, fingerprint: str, cells: Path | None) -> Dataset:
    return load_task(task, seed, backbone, decoded_in(cells))


def decoded_in(cells: Path | None) -> Path | None:
    """Return the folder in which a comparison keeps decoded images while it lasts."""
    return None if cells is None else cells / ".decoded"


def _plane(model: Classifier, dataset: Dataset, spec: str) -> Plane:
    head = model.head
    points, predictions = embed(model, dataset.test)
    # Without a bias, the regions of inner products are still no arcs: the lengths of the vectors count.
    flat = torch.zeros(head.num_classes) if head.score == "dot" else None
    bias = flat if head.bias is None else head.bias.detach()
    return Plane(
        head=spec,
        points=points.tolist(),
        labels=dataset.test.labels.tolist(),
        weights=head.weight.tolist(),
        accuracy=float((predictions == dataset.test.labels).float().mean()),
        bias=None if bias is None else bias.tolist(),
    )
