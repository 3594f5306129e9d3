"""Average precision of every class by COCO's and LVIS's rules: faster-coco-eval, a few classes at a time."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.detection.evaluation.detections import Detections, best
from bisector.errors import missing_extra

COCO_MOST = 100
"""Detections that COCO's rule looks at, of one image and class."""

LVIS_MOST = 300
"""Detections that LVIS's rule looks at, of one image, all classes together."""

# All sizes, then small, medium and large; a box on a border is of both.
_SIZES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))

# Pairs of image and class looked at together; faster-coco-eval holds some objects of Python's for each.
_CELLS = 2**18

Record = dict[str, Any]


class Precision(NamedTuple):
    """Average precision, 0 to 1; NaN for a class without ground truth of that size. The columns are classes.

    Args:
        by_threshold: (10, C) of boxes of all sizes at an overlap (IoU) of 0.50, 0.55 ... 0.95.
        by_size: (3, C) mean over the overlaps, of small, medium and large boxes (below 32^2, 96^2, more pixels).
    """

    by_threshold: Tensor
    by_size: Tensor


def average_precision(truth: BoxSet, detections: Sequence[Detections]) -> Precision:
    """Average precision of every class: its precision at 101 recalls, averaged.

    COCO's rule: the 100 surest detections of each image and class count; what lies in a crowd (a difficult box of
    Pascal VOC) is neither right nor wrong. LVIS's rule, where `truth.style` is "lvis": the 300 surest detections of
    each image count; a class that is neither there nor known to be absent is not looked at in that image, and a
    false detection of one whose boxes are not all marked is not counted.

    Args:
        truth: the images and the boxes in them.
        detections: that fit `truth`, see `require_detections`.

    Raises:
        MissingExtraError: without faster-coco-eval.

    Source: Lin et al. 2014 (COCO), Gupta et al. 2019 (LVIS).
    """
    file = truth.coco()
    # As pycocotools orders images, which decides between equal scores; the evaluator takes no texts.
    ids = sorted((picture.id for picture in truth.pictures), key=lambda own: (isinstance(own, str), own))
    number_of = {own: number for number, own in enumerate(ids, start=1)}
    for image in file["images"]:
        image["id"] = number_of[image["id"]]
    for box in file["annotations"]:
        box["image_id"] = number_of[box["image_id"]]
    lvis = truth.style == "lvis"
    label_of = {category: label for label, category in enumerate(truth.category_ids, start=1)}
    marked: dict[int, list[Record]] = defaultdict(list)
    for box in file["annotations"]:
        marked[box["category_id"]].append(box)
    found = _Found(detections, number_of, len(label_of), LVIS_MOST if lvis else None)
    precision = torch.full((10, 4, len(label_of)), torch.nan, dtype=torch.float64)
    # Without a box of a class there is nothing to find; what is found of it changes no other class.
    for classes in _blocks([c for c in truth.category_ids if c in marked], len(truth.pictures)):
        boxes = [box for c in classes for box in marked[c]]
        records = [record for c in classes for record in found.records(c, label_of[c])]
        columns = [label_of[c] - 1 for c in classes]
        # The evaluator has not always had an answer where nothing was found.
        evaluated = _evaluate(file, classes, boxes, records, lvis) if records else _nothing(classes, boxes)
        precision[:, :, columns] = evaluated
    return Precision(precision[:, 0], precision[:, 1:].mean(dim=0))


class _Found:
    """All detections by class; as records they take a kilobyte each, so those are made a class at a time."""

    def __init__(
        self,
        detections: Sequence[Detections],
        number_of: Mapping[int | str, int],
        classes: int,
        most: int | None,
    ) -> None:
        kept = [one if most is None else best(one, most) for one in detections]
        labels = _joined([one.labels.long() for one in kept], torch.zeros(0, dtype=torch.long))
        order = labels.sort(stable=True).indices  # detections of equal score keep their order
        ends = torch.bincount(labels, minlength=classes + 1).cumsum(0)
        self.of = dict(enumerate(zip([0, *ends.tolist()], ends.tolist(), strict=False)))
        images = [torch.full((len(one),), number_of[one.image]) for one in kept]
        self.images = _joined(images, torch.zeros(0, dtype=torch.long))[order]
        self.boxes = _joined([one.as_written() for one in kept], torch.zeros(0, 4).double())[order]
        self.scores = _joined([one.scores for one in kept], torch.zeros(0))[order]

    def records(self, category: int, label: int) -> Iterator[Record]:
        start, end = self.of[label]
        columns = [values[start:end].tolist() for values in (self.images, self.boxes, self.scores)]
        for image, box, score in zip(*columns, strict=True):
            yield {"image_id": image, "category_id": category, "bbox": box, "score": score}


def _joined(parts: list[Tensor], nothing: Tensor) -> Tensor:
    return torch.cat([part.detach().cpu() for part in parts]) if parts else nothing


def _blocks(classes: list[int], images: int) -> Iterator[list[int]]:
    """Some classes at a time, in ascending order as faster-coco-eval has them."""
    step = max(1, _CELLS // max(1, images))
    classes = sorted(classes)
    for start in range(0, len(classes), step):
        yield classes[start : start + step]


def _nothing(classes: list[int], boxes: list[Record]) -> Tensor:  # (10, 4, classes)
    """What nothing found is worth: 0 for a class with boxes of that size, NaN for one without."""
    areas = torch.tensor([box["area"] for box in boxes if not box.get("iscrowd")], dtype=torch.float64)
    of = torch.tensor([box["category_id"] for box in boxes if not box.get("iscrowd")], dtype=torch.long)
    there = [(areas >= low) & (areas <= high) for low, high in _SIZES]
    columns = [torch.stack([((of == c) & fits).any() for fits in there]) for c in classes]
    return torch.where(torch.stack(columns, dim=1), 0.0, torch.nan).double().expand(10, -1, -1)


def _evaluate(
    file: Record, classes: list[int], boxes: list[Record], detections: list[Record], lvis: bool
) -> Tensor:  # (10, 4, classes)
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise missing_extra("faster-coco-eval", "detection") from None
    # A number 0 means "matched with nothing" to the evaluator, so the boxes are numbered anew.
    boxes = [
        {key: box[key] for key in ("image_id", "category_id", "bbox", "area")}
        | {"id": number, "iscrowd": int(box.get("iscrowd", 0))}
        for number, box in enumerate(boxes, start=1)
    ]
    there = {record["image_id"] for record in (*boxes, *detections)}
    truth = COCO(
        {
            "images": [dict(image) for image in file["images"] if image["id"] in there],
            "annotations": boxes,
            "categories": [{"id": c, "name": str(c), "frequency": "f"} for c in classes],
        },
        print_function=_say_nothing,
    )
    evaluator = COCOeval_faster(
        truth, truth.loadRes(detections), "bbox", print_function=_say_nothing, lvis_style=lvis
    )
    evaluator.params.maxDets = [LVIS_MOST if lvis else COCO_MOST]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = torch.as_tensor(evaluator.eval["precision"])[..., 0].double()  # (10, 101, classes, 4)
    # -1 stands at all recalls of a class without boxes of that size.
    return precision.where(precision >= 0, torch.nan).mean(dim=1).transpose(1, 2)


def _say_nothing(*_: object) -> None:
    """Instead of print."""
