"""Detectors with several heads on the same pictures: trained side by side, each kept in a folder of its own."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from bisector.cores import require_tasks
from bisector.data.boxes import BoxSplits
from bisector.detection.data import load_box_task
from bisector.detection.evaluation import Detections, read_detections, write_detections
from bisector.detection.recipe import BoxRecipe, BoxTask
from bisector.detection.results import BoxResult
from bisector.detection.spec import require_head
from bisector.detection.train import is_finished, train_detector
from bisector.errors import require, require_integer
from bisector.files import read_or_none
from bisector.training.checkpoints import remove_damaged
from bisector.training.processes import Order, default_jobs, train_cells
from bisector.training.recipe import Machine
from bisector.training.results import RESULT

DETECTIONS = "detections.json"

_QUIET = {"enable_progress_bar": False}  # of Lightning; epochs are told by the parent


@dataclass(frozen=True)
class BoxCell:
    """One training of a comparison.

    Args:
        task: the pictures and their boxes.
        head: spec of the head.
        recipe: how to train.
        seed: of data and training.
    """

    task: BoxTask
    head: str
    recipe: BoxRecipe
    seed: int

    def place(self, folder: Path) -> Path:
        """The folder of this training in that of all."""
        words = re.sub(r"[^\w.=-]+", "-", self.head)
        return folder / f"{words}-seed{self.seed}"

    def train(
        self, folder: Path | None, machine: Machine, progress: Callable[[int], None], *, keep: bool = True
    ) -> BoxResult:
        """Train and score, or read the result of a training that was done.

        Raises:
            ArgumentError: the folder holds a training with other settings, or the data cannot be used.
        """
        assert folder is not None  # detections are read from it
        own = self.place(folder)
        splits = _data(self.task, self.seed)
        truth = splits.validation if splits.test is None else splits.test
        remove_damaged(own)
        how: dict[str, Any] = {"seed": self.seed, "machine": machine, "folder": own, "trainer": _QUIET}
        finished = is_finished(splits, self.task, self.head, self.recipe, **how)
        if finished and read_or_none(own / DETECTIONS, partial(read_detections, truth=truth)) is not None:
            progress(self.recipe.epochs)
            return BoxResult.read(own / RESULT)
        (own / RESULT).unlink(missing_ok=True)  # of a shorter training
        _, result, found = train_detector(splits, self.task, self.head, self.recipe, progress=progress, **how)
        write_detections(own / DETECTIONS, truth, found)
        result.write(own / RESULT)  # last: whoever finds it finds all the rest
        return result


def compare_detectors(
    task: BoxTask,
    heads: Sequence[str],
    folder: Path,
    *,
    seeds: int = 1,
    recipe: BoxRecipe | None = None,
    machine: Machine | None = None,
    jobs: int | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> list[tuple[BoxResult, list[Detections]]]:
    """Train a detector with every head and every seed; what was begun in the folder is gone on with.

    Within one seed all heads see the same pictures in the same order and start from the same first weights.

    Args:
        task: the pictures and their boxes.
        heads: specs such as "linear-softmax" or "igam:preset=paper".
        folder: where the trainings are kept, each as `bisector detect train` keeps it.
        seeds: how many; they are 0, 1, ...
        recipe: how to train.
        machine: with which means.
        jobs: trainings at a time; as many as the machine has room for if None.
        progress: told what is trained, and the epochs done since the last call.

    Returns:
        The results, heads in their order within each seed, and what was detected in the part that was scored; of
        the first seed alone, nothing of the others, whose detections are in their folders.

    Raises:
        ArgumentError: an argument is not legal, or the data cannot be used.
    """
    recipe, machine = recipe or BoxRecipe(), machine or Machine()
    alone = "1: a comparison runs its trainings side by side instead"
    require(machine.devices == 1, "devices", machine.devices, alone)
    require(bool(heads), "heads", "none", "at least one")
    for head in heads:
        require(heads.count(head) == 1, "heads", f"{head!r} twice", "each head once")
        require_head(head)
    require_integer("seeds", seeds, least=1)
    jobs = default_jobs(machine) if jobs is None else require_tasks("jobs", jobs)
    cells = [BoxCell(task, head, recipe, seed) for seed in range(seeds) for head in heads]
    told = progress or (lambda what, epochs: None)
    anything: Sequence[Any] = cells  # to the pool a cell is what has a head, a seed and `train`
    results: dict[Any, Any] = dict(train_cells(anything, Order(folder, machine), jobs, told))
    splits = _data(task, 0)
    truth = splits.validation if splits.test is None else splits.test
    return [
        (
            results[cell],
            read_detections(cell.place(folder) / DETECTIONS, truth) if cell.seed == 0 else [],
        )
        for cell in cells
    ]


@lru_cache(maxsize=1)  # cells come seed by seed, and all heads of a seed have the same data
def _data(task: BoxTask, seed: int) -> BoxSplits:
    return load_box_task(task, seed)
