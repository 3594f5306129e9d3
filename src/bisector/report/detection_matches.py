"""What every detection of a picture hit: as COCO's evaluation matches at an overlap of 0.5, and said in words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import torch

from bisector.errors import missing_extra

if TYPE_CHECKING:
    from bisector.data.boxes import BoxSet, Picture
    from bisector.detection.evaluation import Detections

OVERLAP = 0.5
"""Intersection over union from which a detection has an object."""

LEVELS = (0.1, 0.3, 0.5, 0.7)
"""The scores from which detections can be shown."""


class Verdict(Enum):
    """What a detection is, beside the annotations; the value is its sign on the page."""

    RIGHT = "✓"  # an object of its class that nothing with a higher score took
    WRONG = "≠"  # an object of another class
    TWICE = "×2"  # an object of its class that is taken
    NOTHING = "∅"  # no object
    UNJUDGED = "?"  # a crowd, or a class that was not verified there: it does not count


@dataclass(frozen=True)
class Judged:
    """A detection and its verdict."""

    box: tuple[float, float, float, float]
    label: int
    score: float
    verdict: Verdict


@dataclass(frozen=True)
class Matches:
    """A picture's detections, the highest score first, and what became of its objects, crowds apart."""

    judged: tuple[Judged, ...]
    truths: tuple[int, ...]  # the place of each object among the picture's annotations
    found: tuple[float, ...]  # of each, the score of the detection that is right; -1 where there is none
    taken_for: tuple[tuple[int, float] | None, ...]  # the best other class on it, and its score

    def missed(self, level: float) -> list[int]:
        """The positions in `truths` of those that no detection of at least this score found."""
        return [k for k, score in enumerate(self.found) if score < level]

    def shown(self, level: float) -> list[Judged]:
        """The detections of at least this score."""
        return [one for one in self.judged if one.score >= level]


def match_all(truth: "BoxSet", detections: Sequence["Detections"]) -> list[Matches]:
    """The matches of every picture, in the order of `truth`; a picture without detections has none.

    By falling score, each detection that has at least the lowest of `LEVELS` takes the object of its class that it
    overlaps most, of those not yet taken, as in COCO's evaluation at an intersection over union of 0.5. Where not
    all objects of all classes are annotated, as in LVIS, a class counts only where the picture says that it is.

    Raises:
        MissingExtraError: torchvision is not installed.
    """
    of = {one.image: one for one in detections}
    exhaustive = truth.style != "lvis"
    return [_match(picture, of.get(picture.id), exhaustive) for picture in truth.pictures]


def _match(picture: "Picture", detections: "Detections | None", exhaustive: bool) -> Matches:
    try:
        from torchvision.ops import box_area, box_iou
    except ImportError:
        raise missing_extra("torchvision", "detection") from None
    truths = (~picture.crowd).nonzero().flatten().tolist()
    classes = picture.labels[~picture.crowd].tolist()
    found = [-1.0] * len(truths)
    taken_for: list[tuple[int, float] | None] = [None] * len(truths)
    judged: list[Judged] = []
    if detections is None:
        return Matches((), tuple(truths), tuple(found), tuple(taken_for))
    scores = detections.scores.detach().cpu().float()
    order = scores.sort(descending=True, stable=True).indices
    order = order[scores[order] >= LEVELS[0]]
    boxes, labels = (x.detach().cpu()[order] for x in (detections.boxes.float(), detections.labels))
    overlaps = box_iou(boxes, picture.boxes[~picture.crowd]).tolist()
    crowds = picture.boxes[picture.crowd]
    corner = torch.maximum(boxes[:, None, :2], crowds[None, :, :2])
    common = (torch.minimum(boxes[:, None, 2:], crowds[None, :, 2:]) - corner).clamp(min=0).prod(dim=2)
    crowded = common / box_area(boxes).clamp(min=1e-9)[:, None] >= OVERLAP
    excused = (crowded & (labels[:, None] == picture.labels[picture.crowd])).any(dim=1).tolist()
    verified = (set(picture.labels.tolist()) | {*picture.negative}) - {*picture.not_exhaustive}
    rows = zip(boxes.tolist(), labels.tolist(), scores[order].tolist(), overlaps, excused, strict=True)
    for box, label, score, own, in_crowd in rows:
        hit = [k for k, overlap in enumerate(own) if overlap >= OVERLAP]
        # Of equal overlaps the last, as in COCO's evaluation.
        free = max(((own[k], k) for k in hit if classes[k] == label and found[k] < 0), default=None)
        for k in hit:
            if classes[k] != label and taken_for[k] is None:
                taken_for[k] = label, score
        if free is not None:
            found[free[1]] = score
            verdict = Verdict.RIGHT
        elif in_crowd or not (exhaustive or label in verified):
            verdict = Verdict.UNJUDGED
        elif any(classes[k] == label for k in hit):
            verdict = Verdict.TWICE
        else:
            verdict = Verdict.WRONG if hit else Verdict.NOTHING
        judged.append(Judged(tuple(box), label, score, verdict))
    return Matches(tuple(judged), tuple(truths), tuple(found), tuple(taken_for))


def best_level(runs: Sequence[Sequence[Matches]]) -> float:
    """The one of `LEVELS` at which the runs' F1 is highest in the mean; of equal ones the highest.

    F1 is 2 right / (detections that count + objects), over all pictures.
    """

    def f1(matches: Sequence[Matches], level: float) -> float:
        objects = sum(len(one.truths) for one in matches)
        right = objects - sum(len(one.missed(level)) for one in matches)
        counting = sum(one.verdict is not Verdict.UNJUDGED for m in matches for one in m.shown(level))
        return 2 * right / max(counting + objects, 1)

    return max(LEVELS, key=lambda level: (sum(f1(run, level) for run in runs), level))


def class_outcomes(truth: "BoxSet", matches: Sequence[Matches], level: float) -> dict[int, Counter[int]]:
    """Count, by label, what its objects were taken for: its own label for those found, 0 for nothing."""
    outcomes: dict[int, Counter[int]] = {}
    for picture, found in zip(truth.pictures, matches, strict=True):
        labels, missed = picture.labels.tolist(), set(found.missed(level))
        for k, place in enumerate(found.truths):
            label, other = labels[place], found.taken_for[k]
            taken = other[0] if other is not None and other[1] >= level else 0
            outcomes.setdefault(label, Counter())[taken if k in missed else label] += 1
    return outcomes
