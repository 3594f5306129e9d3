"""The cells of a comparison: one head with one seed each, trained alone, kept in a folder of its own."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from bisector._version import __version__
from bisector.data.dataset import Dataset
from bisector.files import read_or_none
from bisector.records import write_record
from bisector.training.checkpoints import BEST, LAST, remove_damaged
from bisector.training.data import load_task
from bisector.training.evaluate import embed
from bisector.training.module import Classifier
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import RESULT, Plane, Run, read_plane, read_run
from bisector.training.train import train

PLANE_EPOCHS = 3  # how many times as long a two-dimensional embedding is trained


@dataclass(frozen=True)
class Cell:
    """One training of a comparison.

    Args:
        task: what it is trained on.
        head: spec of the head.
        recipe: how.
        seed: of data and training.
        plane: whether it is trained with a two-dimensional embedding, to be drawn.
        precision: of the training.
        fingerprint: of the data; a cell of other data is another cell.
    """

    task: Task
    head: str
    recipe: Recipe
    seed: int
    plane: bool = False
    precision: str = "32-true"
    fingerprint: str = ""

    @property
    def epochs(self) -> int:
        """How many epochs it is trained for."""
        return self.recipe.epochs * (PLANE_EPOCHS if self.plane else 1)

    @property
    def key(self) -> str:
        """A name for its folder, different for everything on which its result depends."""
        depends = {**asdict(self), "version": __version__}
        if self.fingerprint:  # which knows the data, wherever they lie
            del depends["task"]["data"]
        text = json.dumps(depends, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        words = re.sub(r"[^\w.=-]+", "-", self.head)[:60]
        return f"{words}-seed{self.seed}{'-plane' if self.plane else ''}-{digest}"

    def done(self, cells: Path | None, *, keep: bool = False) -> Run | Plane | None:
        """Return the result, if it is there already, and the checkpoint too if that is to be kept."""
        if cells is None or (keep and not (cells / self.key / LAST).is_file()):
            return None
        read: Callable[[Path], Run | Plane] = read_plane if self.plane else read_run
        return read_or_none(cells / self.key / RESULT, read)

    def train(
        self, cells: Path | None, machine: Machine, progress: Callable[[int], None], *, keep: bool = False
    ) -> Run | Plane:
        """Train it, or go on with it, and keep the result.

        Args:
            cells: the folder that holds those of all cells; nothing is kept if None.
            machine: with which means.
            progress: told after every epoch.
            keep: whether the checkpoints stay when the result is there.
        """
        dataset = _load(self.task, self.seed, self.recipe.backbone, self.fingerprint)
        folder = None if cells is None else cells / self.key
        remove_damaged(folder)
        recipe = self.recipe
        if self.plane:  # ten classes find their places on a circle slowly
            recipe = replace(recipe, embedding_dim=2, epochs=self.epochs)
        model, result = train(
            dataset,
            self.task,
            self.head,
            recipe,
            seed=self.seed,
            machine=machine,
            folder=folder,
            progress=progress,
        )
        record: Run | Plane = _plane(model, dataset, self.head) if self.plane else result
        if folder is not None:
            write_record(record, folder / RESULT)
            for name in () if keep else (LAST, BEST):
                (folder / name).unlink(missing_ok=True)
        return record


@lru_cache(maxsize=1)
def _load(task: Task, seed: int, backbone: str, fingerprint: str) -> Dataset:
    return load_task(task, seed, backbone)


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
