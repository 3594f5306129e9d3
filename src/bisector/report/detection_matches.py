"""What every detection of a picture hit: as COCO's evaluation matches at an overlap of 0.5, and said in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

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
    """A picture's detections, the highest score first, and what became of its objects."""

    judged: tuple[Judged, ...]
    truths: tuple[int, ...]  # the annotation's place in the picture, of those that are no crowds
    found: tuple[
        float, ...
    ]  # for each of them, the score of the detection that is right; -1 where there is none
    taken_for: tuple[tuple[int, float] | None, ...]  # the best other class on it, and its score

    def missed(self, level: float) -> list[int]:
        """The positions in `truths` of those that no detection of at least this score found."""
        return [k for k, score in enumerate(self.found) if score < level]

    def shown(self, level: float) -> list[Judged]:
        """The detections of at least this score."""
        return [one for one in self.judged if one.score >= level]


def match_all(truth: "BoxSet", detections: Sequence["Detections"]) -> list[Matches]:
    """The matches of every picture, in the order of `truth`; a picture without detections has none."""
    of: Mapping[int | str, Detections] = {one.image: one for one in detections}
    empty = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    found = []
    for picture in truth.pictures:
        one = of.get(picture.id)
        boxes, labels, scores = empty if one is None else (one.boxes, one.labels, one.scores)
        verified = truth.style != "lvis"
        found.append(match(picture, boxes, labels, scores, exhaustive=verified))
    return found


def match(
    picture: "Picture", boxes: Tensor, labels: Tensor, scores: Tensor, *, exhaustive: bool = True
) -> Matches:
    """Match the detections of one picture that have at least the lowest of `LEVELS` as a score.

    By falling score, each takes the object of its class that it overlaps most, of those not yet taken, as in
    COCO's evaluation at an intersection over union of 0.5.

    Args:
        picture: with its annotations.
        boxes: shape (n, 4), corners in pixels.
        labels: shape (n,), 1 to C.
        scores: shape (n,).
        exhaustive: whether all objects of all classes are annotated; if not, a class counts only where the
            picture says that it is, as in LVIS.

    Raises:
        MissingExtraError: torchvision is not installed.
    """
    try:
        from torchvision.ops import box_area, box_iou
    except ImportError:
        raise missing_extra("torchvision", "detection") from None
    high = scores >= LEVELS[0]
    boxes, labels, scores = (x.detach().cpu()[high.cpu()] for x in (boxes.float(), labels, scores.float()))
    order = torch.sort(scores, descending=True, stable=True).indices
    boxes, labels, scores = boxes[order], labels[order], scores[order]
    truths = (~picture.crowd).nonzero().flatten().tolist()
    classes = picture.labels[~picture.crowd].tolist()
    overlaps = box_iou(boxes, picture.boxes[~picture.crowd]).tolist()
    crowds = picture.boxes[picture.crowd]
    inside = _intersections(boxes, crowds) / box_area(boxes).clamp(min=1e-9)[:, None]
    crowded = (inside >= OVERLAP) & (labels[:, None] == picture.labels[picture.crowd])
    excused = crowded.any(dim=1).tolist()
    judged_classes = (set(picture.labels.tolist()) | {*picture.negative}) - {*picture.not_exhaustive}
    found = [-1.0] * len(truths)
    taken_for: list[tuple[int, float] | None] = [None] * len(truths)
    judged = []
    for i, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True)):
        hit = [k for k, overlap in enumerate(overlaps[i]) if overlap >= OVERLAP]
        free = [k for k in hit if classes[k] == label and found[k] < 0]
        for k in hit:
            if classes[k] != label and taken_for[k] is None:
                taken_for[k] = label, score
        if free:
            # Of equal overlaps the last, as in COCO's evaluation.
            found[max(free, key=lambda k, i=i: (overlaps[i][k], k))] = score  # type: ignore[misc]
            verdict = Verdict.RIGHT
        elif excused[i] or not (exhaustive or label in judged_classes):
            verdict = Verdict.UNJUDGED
        elif any(classes[k] == label for k in hit):
            verdict = Verdict.TWICE
        else:
            verdict = Verdict.WRONG if hit else Verdict.NOTHING
        left, top, right, bottom = boxes[i].tolist()
        judged.append(Judged((left, top, right, bottom), label, score, verdict))
    return Matches(tuple(judged), tuple(truths), tuple(found), tuple(taken_for))


def best_level(runs: Sequence[Sequence[Matches]]) -> float:
    """The one of `LEVELS` at which the runs' F1 is highest in the mean; of equal ones the highest.

    F1 is 2 right / (detections that count + objects), over all pictures.
    """
    return max(LEVELS, key=lambda level: (sum(_f1(run, level) for run in runs), level))


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


def _f1(matches: Sequence[Matches], level: float) -> float:
    objects = sum(len(one.truths) for one in matches)
    right = objects - sum(len(one.missed(level)) for one in matches)
    counting = sum(one.verdict is not Verdict.UNJUDGED for m in matches for one in m.shown(level))
    return 2 * right / max(counting + objects, 1)


def _intersections(boxes: Tensor, others: Tensor) -> Tensor:
    """Areas, shape (n, m)."""
    corner = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (opposite - corner).clamp(min=0).prod(dim=2)
