"""What the page of a detector is made from: its trainings, what each found, and the numbers of the classes."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bisector.detection.evaluation import BoxAccuracy, BoxScores, Detections

_FEWEST = 5  # classes; a correlation over fewer is close to 1 by chance


@dataclass(frozen=True, eq=False)
class DetectionRun:
    """One training of a detector, scored on the pictures of a `BoxSet`.

    Nothing in it is of the clock: the page of a training that was killed and resumed is that of one that was not.
    """

    name: str  # of the head, as on the command line
    seed: int
    scores: "BoxScores"
    detections: Sequence["Detections"]
    classified: "BoxAccuracy | None" = None  # of the annotated boxes, where that was looked at


def by_head(runs: Sequence[DetectionRun]) -> Mapping[str, list[DetectionRun]]:
    """The runs of every head, in the order in which the heads come first."""
    found: dict[str, list[DetectionRun]] = {}
    for run in runs:
        found.setdefault(run.name, []).append(run)
    return found


def same_data(runs: Sequence[DetectionRun]) -> list[DetectionRun]:
    """Return the runs with as many boxes of every class as the first: all, unless seeds draw their data."""

    def data(run: DetectionRun) -> object:
        return run.scores.train_counts, run.scores.class_frequency, run.scores.class_boxes

    return [run for run in runs if data(run) == data(runs[0])]


def shown_scores(scores: "BoxScores") -> "BoxScores":
    """Return the scores to show: a correlation over fewer than 5 classes becomes NaN."""
    trained = scores.train_counts or (1,) * len(scores.class_ap)
    classes = sum(math.isfinite(ap) and boxes > 0 for ap, boxes in zip(scores.class_ap, trained, strict=True))
    if classes >= _FEWEST:
        return scores
    return replace(scores, r_count=math.nan, r_amount=math.nan, r_amount_given_count=math.nan)


def class_ap(runs: Sequence[DetectionRun], field: str = "class_ap") -> list[float]:
    """The AP of every class, the mean over these runs; NaN where none has one."""
    every = zip(*(map(float, getattr(run.scores, field)) for run in runs), strict=True)
    known = ([value for value in values if math.isfinite(value)] for values in every)
    return [statistics.fmean(values) if values else math.nan for values in known]


def training_boxes(runs: Sequence[DetectionRun]) -> list[float]:
    """The training boxes of every class, the mean over the runs; NaN where none says."""
    every = [run.scores.train_counts for run in runs if run.scores.train_counts is not None]
    if not every:
        return [math.nan] * len(runs[0].scores.class_names)
    return [statistics.fmean(counts) for counts in zip(*every, strict=True)]


def class_groups(runs: Sequence[DetectionRun]) -> Sequence[str]:
    """Return "rare", "common" or "frequent" for every class; empty strings where all are in one group."""
    groups = runs[0].scores.class_frequency or ()
    return groups if len(set(groups)) > 1 else [""] * len(runs[0].scores.class_names)
