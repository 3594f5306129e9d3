"""The classes of a detector's runs as points: training boxes and AP, and the means of the groups."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bisector.report.detection_classes import class_ap, class_groups, training_boxes
from bisector.report.detection_run import DetectionRun, same_data

GROUPS = ("rare", "common", "frequent")


@dataclass(frozen=True)
class ClassPoint:
    """A class of a head, or of one of its seeds."""

    name: str
    group: str
    boxes: float  # in training
    tested: int
    ap: float  # %


def parts_of(runs: Sequence[DetectionRun]) -> list[list[DetectionRun]]:
    """The runs of a head: together, or one by one where a class has not the same boxes, or group, in all."""
    return [list(runs)] if len(same_data(runs)) == len(runs) else [[run] for run in runs]


def class_points(runs: Sequence[DetectionRun]) -> list[ClassPoint]:
    """The classes that have training boxes and an AP, the mean over the runs."""
    scores = runs[0].scores
    columns = (
        scores.class_names,
        class_groups(runs),
        training_boxes(runs),
        scores.class_boxes,
        class_ap(runs),
    )
    return [
        ClassPoint(name, group, boxes, tested, 100 * ap)
        for name, group, boxes, tested, ap in zip(*columns, strict=True)
        if math.isfinite(ap) and math.isfinite(boxes) and boxes > 0
    ]


def group_means(parts: Sequence[Sequence[DetectionRun]]) -> dict[str, tuple[float, float]]:
    """By group, the geometric mean of the training boxes and the mean AP in percent, averaged over the parts."""
    means = {}
    for group in GROUPS:
        logs, aps = [], []
        for runs in parts:
            columns = zip(class_groups(runs), training_boxes(runs), class_ap(runs), strict=True)
            own = [(boxes, ap) for name, boxes, ap in columns if name == group and math.isfinite(ap)]
            trained = [math.log(boxes) for boxes, _ in own if boxes > 0]
            if trained:
                logs.append(statistics.fmean(trained))
                aps.append(100 * statistics.fmean(ap for _, ap in own))
        if logs:
            means[group] = math.exp(statistics.fmean(logs)), statistics.fmean(aps)
    return means
