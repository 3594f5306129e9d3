"""Detectors with several heads on the same pictures: trained side by side, each kept in a folder of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bisector.data.boxes import BoxSplits
from bisector.detection.attaching import require_head
from bisector.detection.data import load_box_task
from bisector.detection.evaluation import Detections, read_detections, write_detections
from bisector.detection.module import Detector
from bisector.detection.recipe import BoxRecipe, BoxTask
from bisector.detection.train import BoxResult, Detection
from bisector.errors import require
from bisector.training.cells import Cell, require_heads
from bisector.training.experiment import Experiment
from bisector.training.recipe import Machine
from bisector.training.results import RESULT, read_result

DETECTIONS = "detections.json"


@dataclass(frozen=True)
class BoxCell(Cell[Detector, BoxResult]):
    """One training of a comparison of detectors."""

    task: BoxTask
    recipe: BoxRecipe

    leaves = (RESULT, DETECTIONS)

    def experiment(self, machine: Machine, cells: Path | None = None) -> Experiment[Detector, BoxResult]:
        """Return the training, its data loaded."""
        return Detection(
            splits=load_once(self.task, self.seed),
            task=self.task,
            head=self.head,
            recipe=self.recipe,
            seed=self.seed,
            machine=machine,
        )

    def read(self, folder: Path) -> BoxResult:
        """Read the result; the detections are read too, whether they are whole."""
        self.detections(folder)
        return read_result(BoxResult, folder / RESULT)

    def detections(self, folder: Path) -> list[Detections]:
        """Read what was detected in the part that is scored."""
        return read_detections(folder / DETECTIONS, load_once(self.task, self.seed).truth)

    def keep_beside(self, folder: Path, beside: list[Detections]) -> None:
        """Write the detections."""
        write_detections(folder / DETECTIONS, load_once(self.task, self.seed).truth, beside)


def plan(
    task: BoxTask, heads: Sequence[str], *, seeds: int = 1, recipe: BoxRecipe, machine: Machine
) -> tuple[list[BoxCell], BoxSplits]:
    """Check everything and return the cells of a comparison, seed by seed, with the data of seed 0.

    Within one seed all heads see the same pictures in the same order and start from the same first weights.

    Raises:
        ArgumentError: an argument is not legal, or the data cannot be used.
    """
    require(bool(heads), "heads", "none", "at least one")
    require_heads(heads, seeds, machine)
    for head in heads:
        require_head(head)
    splits = load_once(task, 0)
    known = splits.fingerprint()
    cells = [
        BoxCell(task, head, recipe, seed, machine.precision, known) for seed in range(seeds) for head in heads
    ]
    return cells, splits


@lru_cache(maxsize=1)  # cells come seed by seed, and all heads of a seed have the same data
def load_once(task: BoxTask, seed: int) -> BoxSplits:
    """Load the data of a seed; all who ask for the same get the same."""
    return load_box_task(task, seed)
