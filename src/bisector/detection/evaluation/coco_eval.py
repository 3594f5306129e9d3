"""Average precision of every class by COCO's and LVIS's rules: faster-coco-eval, a few classes at a time."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.detection.evaluation.detections import Detections
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
    marked: dict[int, list[Record]] = defaultdict(list)
    # A number 0 means "matched with nothing" to the evaluator, so the boxes are numbered anew.
    for number, box in enumerate(file["annotations"], start=1):
        marked[box["category_id"]].append({**box, "id": number, "image_id": number_of[box["image_id"]]})
    lvis = truth.style == "lvis"
    label_of = {category: label for label, category in enumerate(truth.category_ids, start=1)}
    found = _ByClass(
        [one.best(LVIS_MOST) for one in detections] if lvis else detections, number_of, len(label_of)
    )
    precision = torch.full((10, 4, len(label_of)), torch.nan, dtype=torch.float64)
    # Without a box of a class there is nothing to find; what is found of it changes no other class.
    categories = sorted(marked)
    step = max(1, _CELLS // max(1, len(truth.pictures)))
    for start in range(0, len(categories), step):
        some = categories[start : start + step]
        records = [record for category in some for record in found.records(category, label_of[category])]
        columns = [label_of[category] - 1 for category in some]
        # The evaluator has not always had an answer where nothing was found.
        if records:
            boxes = [box for category in some for box in marked[category]]
            precision[:, :, columns] = _evaluate(file["images"], some, boxes, records, lvis=lvis)
        else:
            precision[:, :, columns] = _nothing_found([marked[category] for category in some])
    return Precision(precision[:, 0], precision[:, 1:].mean(dim=0))


class _ByClass:
    """All detections by class; as records they take a kilobyte each, so those are made a class at a time."""

    def __init__(
        self, detections: Sequence[Detections], number_of: Mapping[int | str, int], classes: int
    ) -> None:
        labels = _joined([one.labels.long() for one in detections], torch.zeros(0, dtype=torch.long))
        order = labels.sort(stable=True).indices  # detections of equal score keep their order
        self.ends = [0, *torch.bincount(labels, minlength=classes + 1).cumsum(0).tolist()]
        images = [torch.full((len(one),), number_of[one.image]) for one in detections]
        self.images = _joined(images, torch.zeros(0, dtype=torch.long))[order]
        self.boxes = _joined([one.as_written() for one in detections], torch.zeros(0, 4).double())[order]
        self.scores = _joined([one.scores for one in detections], torch.zeros(0))[order]

    def records(self, category: int, label: int) -> Iterator[Record]:
        own = slice(self.ends[label], self.ends[label + 1])
        columns = [values[own].tolist() for values in (self.images, self.boxes, self.scores)]
        for image, box, score in zip(*columns, strict=True):
            yield {"image_id": image, "category_id": category, "bbox": box, "score": score}


def _joined(parts: list[Tensor], nothing: Tensor) -> Tensor:
    return torch.cat([part.detach().cpu() for part in parts]) if parts else nothing


def _nothing_found(boxes: list[list[Record]]) -> Tensor:  # (10, 4, classes)
    """0 for a class with boxes of that size, NaN for one without."""
    areas = [[box["area"] for box in own if not box["iscrowd"]] for own in boxes]
    worth = [
        [0.0 if any(low <= area <= high for area in own) else torch.nan for own in areas]
        for low, high in _SIZES
    ]
    return torch.tensor(worth, dtype=torch.float64).expand(10, -1, -1)


def _evaluate(
    images: list[Record], categories: list[int], boxes: list[Record], detections: list[Record], *, lvis: bool
) -> Tensor:  # (10, 4, categories)
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise missing_extra("faster-coco-eval", "detection") from None

    def silent(*_: object) -> None:
        """Take the place of print."""

    there = {record["image_id"] for record in (*boxes, *detections)}
    content = {
        "images": [dict(image) for image in images if image["id"] in there],
        "annotations": boxes,
        "categories": [{"id": c, "name": str(c), "frequency": "f"} for c in categories],
    }
    truth = COCO(content, print_function=silent)
    found = truth.loadRes(detections)
    evaluator = COCOeval_faster(truth, found, "bbox", print_function=silent, lvis_style=lvis)
    evaluator.params.maxDets = [LVIS_MOST if lvis else COCO_MOST]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = torch.as_tensor(evaluator.eval["precision"])[..., 0].double()  # (10, 101, categories, 4)
    # -1 stands at all recalls of a class without boxes of that size.
    return precision.where(precision >= 0, torch.nan).mean(dim=1).transpose(1, 2)
