"""What the page of a detector is made from: one training and what its detector found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bisector.detection.evaluation import BoxAccuracy, BoxScores, Detections


@dataclass(frozen=True, eq=False)
class DetectionRun:
    """One training of a detector, scored on the pictures of a `BoxSet`."""

    name: str  # of the head, as on the command line
    seed: int
    scores: "BoxScores"
    detections: Sequence["Detections"]
    seconds: float = math.nan  # of training
    classified: "BoxAccuracy | None" = None  # of the annotated boxes, where that was looked at


def by_head(runs: Sequence[DetectionRun]) -> Mapping[str, list[DetectionRun]]:
    """The runs of every head, in the order in which the heads come first."""
    found: dict[str, list[DetectionRun]] = {}
    for run in runs:
        found.setdefault(run.name, []).append(run)
    return found


def first_runs(runs: Sequence[DetectionRun]) -> list[DetectionRun]:
    """The first run of each head: pictures and confusions are of these."""
    return [found[0] for found in by_head(runs).values()]
