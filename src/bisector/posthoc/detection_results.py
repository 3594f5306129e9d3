"""Post-hoc adjustment of the stored results of a detector, as COCO and LVIS exchange them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from bisector.data.boxes.annotations import image_id, integer_id
from bisector.data.boxes.picture import corners_of
from bisector.errors import ArgumentError, missing_extra, require, require_integer, require_number
from bisector.posthoc.adjustment import BaseAdjustment
from bisector.posthoc.detections import Activation, adjust_scores, parts_of

Record = Mapping[str, Any]


def adjust_results(
    records: Sequence[Record],
    offsets: BaseAdjustment | Tensor,  # (C,)
    category_ids: Sequence[int],  # (C,)
    *,
    background: Any = None,
    activation: Activation = "softmax",
    threshold: float = 0.05,
    nms_iou: float | None = None,
    per_image: int | None = None,
) -> list[dict[str, Any]]:
    r"""Return COCO results with the classes' offsets, sorted by image and falling score; the input is unchanged.

    A record with "score" keeps its class, and the odds of its score are multiplied by :math:`e^{b_c}`. For a
    softmax detector that takes the others, background included, to keep their weight together, which cannot be
    known from one number. As the order within a class stays, each class's AP changes only by `per_image`
    (LVIS's is 300 of all classes together; COCO's 100 are counted for each class).

    A record with "scores", all those of its box, can change its class: it becomes a record for every class whose
    adjusted score reaches the threshold, by `adjust_scores`. Give each box once; a detector's non-maximum
    suppression has judged boxes by their old classes, so ask for it again by `nms_iou` where it has any.

    Args:
        records: with "image_id" and either "score" and "category_id", or "scores", (C,) or with the background
            (C + 1,), in the order of `category_ids`. All other keys are carried over; "scores" is not.
        offsets: an `Adjustment`, or (C,) b; one that asks for embeddings is refused: a file holds none.
        category_ids: the file's id of each class.
        background: of "scores": the first column (0), the last (-1), or none (None).
        activation: of "scores": "softmax" or "sigmoid".
        threshold: of "scores": the least adjusted score, in [0, 1].
        nms_iou: suppress, within image and class, boxes that overlap a better one by more; None: none. Needs
            torchvision and "bbox", x y w h.
        per_image: keep so many of the best an image; None: all.

    Raises:
        ArgumentError: an argument is not as described; which record.
        MissingExtraError: torchvision is needed and not installed.

    >>> records = [{"image_id": 7, "bbox": [0, 0, 9, 9], "scores": [0.1, 0.5, 0.4]}]
    >>> found = adjust_results(records, torch.tensor([0.0, 1.0]), [3, 18], background=0)
    >>> [(record["category_id"], round(record["score"], 3)) for record in found]
    [(18, 0.617), (3, 0.283)]
    """
    b, temperature = parts_of(offsets)
    ids = [require_integer("category_ids", category, least=0) for category in category_ids]
    require(len(ids) == len(b), "category_ids", f"{len(ids)} ids", f"{len(b)}, one for each offset")
    require(len(set(ids)) == len(b), "category_ids", "an id twice", "each once")
    require_number("threshold", threshold, least=0, most=1)
    if nms_iou is not None:
        require_number("nms_iou", nms_iou, least=0, most=1)
    if per_image is not None:
        require_integer("per_image", per_image, least=1)
    column: dict[int | None, int] = {category: k for k, category in enumerate(ids)}
    width = len(b) + (background is not None)
    images: dict[int | str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        images[_image_of(record, f"records[{place}]", column, width)].append(place)

    found: list[dict[str, Any]] = []
    for image in sorted(images, key=lambda own: (isinstance(own, str), own)):
        single = [place for place in images[image] if "scores" not in records[place]]
        several = [place for place in images[image] if "scores" in records[place]]
        sources = _tensor(single, torch.int64)
        classes = _tensor([column[integer_id(records[k]["category_id"])] for k in single], torch.int64)
        scores = _tensor([float(records[k]["score"]) for k in single], torch.float64)
        scores = (scores.logit() / temperature + b.to(scores)[classes]).sigmoid()
        if several:
            try:
                rows = _tensor([list(map(float, records[k]["scores"])) for k in several], torch.float64)
                rows = adjust_scores(rows, offsets, background=background, activation=activation)
            except (ArgumentError, TypeError, ValueError) as error:
                raise ArgumentError(f"records of image {image}: {error}") from None
            rows = rows.narrow(1, 1 if background == 0 else 0, len(b))
            box, kind = (rows >= threshold).nonzero(as_tuple=True)
            sources = torch.cat([sources, _tensor(several, torch.int64)[box]])
            classes, scores = torch.cat([classes, kind]), torch.cat([scores, rows[box, kind]])
        order = scores.argsort(descending=True, stable=True)
        if nms_iou is not None and len(order):
            boxes = _boxes(records, sources[order].tolist())
            order = order[_batched_nms(boxes, scores[order], classes[order], nms_iou)]
        for k in order[:per_image].tolist():
            record = {key: value for key, value in records[int(sources[k])].items() if key != "scores"}
            found.append({**record, "category_id": ids[int(classes[k])], "score": float(scores[k])})
    return found


def _tensor(values: list[Any], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype, device="cpu")


def _boxes(records: Sequence[Record], places: list[int]) -> Tensor:  # (n, 4) corners
    for place in places:
        box = records[place].get("bbox")
        fits = isinstance(box, Sequence) and len(box) == 4 and all(isinstance(side, Real) for side in box)
        require(fits, f"records[{place}]", f"bbox {box!r}", "x y w h, for nms_iou")
    return corners_of(_tensor([records[place]["bbox"] for place in places], torch.float64))


def _batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
    """The places, best first, of what non-maximum suppression within each class leaves."""
    try:
        from torchvision.ops import batched_nms
    except ImportError as error:
        raise missing_extra("torchvision", "detection") from error
    kept: Tensor = batched_nms(boxes, scores, classes, iou)
    return kept


def _image_of(record: Record, name: str, column: Mapping[int | None, int], width: int) -> int | str:
    """Return the image of a record that is as it should be."""
    require(isinstance(record, Mapping), name, type(record).__name__, "a COCO result")
    image = image_id(record.get("image_id"))
    if image is None:
        raise ArgumentError(f"{name}: got image_id {record.get('image_id')!r}; expected an integer or a text")
    if "scores" in record:
        scores = record["scores"]
        got = f"{len(scores)} scores" if hasattr(scores, "__len__") else f"scores {scores!r}"
        require(got == f"{width} scores", name, got, f"{width}")
    else:
        score, category = record.get("score"), record.get("category_id")
        legal = isinstance(score, Real) and 0 <= float(score) <= 1
        require(legal, name, f"score {score!r}", "a probability, or scores of each class")
        known = integer_id(category) in column
        require(known, name, f"category_id {category!r}", f"one of the {len(column)} category_ids")
    return image
