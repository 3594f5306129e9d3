"""What a detector found in images, and the results files of COCO in which that is exchanged."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.data.boxes.annotations import image_id, integer_id
from bisector.data.boxes.picture import corners_of
from bisector.errors import ArgumentError, require
from bisector.files import whole_file

_LARGEST = 1e30


@dataclass(frozen=True, eq=False)
class Detections:
    """The n boxes that were found in one image, in any order.

    Args:
        image: `Picture.id` of the image.
        boxes: (n, 4) corners x1 y1 x2 y2 in pixels of the original image, x2 >= x1 and y2 >= y1.
        labels: (n,) classes from 1; 0 is the background and never found.
        scores: (n,) finite, the surest highest.
        class_scores: (n, C) where the scores of all classes were kept, column 0 being class 1.
        written: (n, 4) float64, x y width height as a results file has them, by which they are scored then: an
            overlap may be a threshold to the last bit. None: as `boxes`. Whoever changes `boxes` changes these.

    Raises:
        ArgumentError: if a shape or a dtype does not fit, a number is not finite, or `written` are other boxes.

    >>> Detections(7, torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([1]), torch.tensor([float("nan")]))
    Traceback (most recent call last):
    bisector.errors.ArgumentError: scores: got nan for detection 0 of image 7; expected finite numbers
    """

    image: int | str
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    class_scores: Tensor | None = None
    written: Tensor | None = None

    def __post_init__(self) -> None:
        boxes, rows, where = self.boxes, len(self.boxes), f"in image {self.image}"
        require(boxes.shape == (rows, 4), "boxes", f"shape {tuple(boxes.shape)} {where}", "shape (n, 4)")
        for name, values in (("labels", self.labels), ("scores", self.scores)):
            fits = values.shape == (rows,)
            require(fits, name, f"shape {tuple(values.shape)} {where}", f"shape ({rows},)")
        integer = not (self.labels.is_floating_point() or self.labels.dtype == torch.bool)
        require(integer, "labels", f"{self.labels.dtype} {where}", "an integer dtype")
        for name, values in (("boxes", boxes), ("scores", self.scores)):
            self._require(name, values, values.isfinite(), "finite numbers")
        ordered = (boxes[:, 2:] >= boxes[:, :2]).all(dim=1)
        self._require("boxes", boxes, ordered, "corners x1 y1 x2 y2 with x2 >= x1 and y2 >= y1")
        if (vectors := self.class_scores) is not None:
            fits = vectors.ndim == 2 and len(vectors) == rows
            require(fits, "class_scores", f"shape {tuple(vectors.shape)} {where}", f"shape ({rows}, C)")
            self._require("class_scores", vectors, vectors.isfinite(), "finite numbers")
        if (written := self.written) is not None:
            fits = written.shape == (rows, 4) and written.dtype == torch.float64
            got = f"shape {tuple(written.shape)}, {written.dtype} {where}"
            require(fits, "written", got, f"shape ({rows}, 4), torch.float64")
            same = (corners_of(written).to(boxes.dtype) == boxes).all(dim=1)
            self._require("boxes", boxes, same, "the box that `written` says: change both, or have None")

    def __len__(self) -> int:
        return len(self.boxes)

    def as_written(self) -> Tensor:  # (n, 4) float64
        """Return x y width height: what the file says, else what gives the corners again to the last bit."""
        if self.written is not None:
            return self.written
        corners = self.boxes.double()
        return torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)

    def best(self, most: int) -> "Detections":
        """Return the detections with the highest scores, at most so many; of equal ones the first."""
        if len(self) <= most:
            return self
        kept = self.scores.sort(descending=True, stable=True).indices[:most]
        names = ("boxes", "labels", "scores", "class_scores", "written")
        rows: dict[str, Any] = {n: None if (c := getattr(self, n)) is None else c[kept] for n in names}
        return replace(self, **rows)

    def _require(self, name: str, values: Tensor, legal: Tensor, expected: str) -> None:
        """Raise at the first detection that is not legal."""
        if not bool(legal.all()):
            row = int((~legal).nonzero()[0, 0])
            got = f"{values[row].tolist()} for detection {row} of image {self.image}"
            require(False, name, got, expected)


def require_detections(truth: BoxSet, detections: Sequence[Detections]) -> None:
    """Raise `ArgumentError` unless every image is one of `truth` and there once, and every label a class."""
    known = {picture.id for picture in truth.pictures}
    classes = len(truth.class_names)
    seen: set[int | str] = set()
    for one in detections:
        require(one.image in known, "detections", f"image {one.image}", f"an image of {truth.name}")
        require(one.image not in seen, "detections", f"image {one.image} twice", "each image once")
        seen.add(one.image)
        labels = one.labels.long()  # a byte cannot be compared with 1,203
        wrong = labels[(labels < 1) | (labels > classes)]
        if len(wrong):
            got = f"label {int(wrong[0])} in image {one.image}"
            require(False, "detections", got, f"labels from 1 to {classes}")
        width = classes if one.class_scores is None else one.class_scores.shape[1]
        got = f"{width} scores a box in image {one.image}"
        require(width == classes, "detections", got, f"one for each of the {classes} classes")


def write_detections(path: Path, truth: BoxSet, detections: Sequence[Detections]) -> None:
    """Write detections as COCO's and LVIS's own tools read them, one record a line.

    A record has `image_id`, `category_id` as in the file of the ground truth, `bbox` (x, y, width, height in
    pixels), `score`, and `scores` of all classes, in the order of `truth.category_ids`, where the detections have
    them.

    Args:
        path: of the file.
        truth: the images that were looked at.
        detections: in them, each image once.

    Raises:
        ArgumentError: if an image or a label does not fit `truth`.
        OSError: if the file cannot be written.
    """
    require_detections(truth, detections)
    write_records(Path(path), (record for one in detections for record in _records(truth, one)))


def _records(truth: BoxSet, one: Detections) -> Iterable[dict[str, Any]]:
    vectors = [None] * len(one) if one.class_scores is None else one.class_scores.tolist()
    columns = (one.labels.tolist(), one.as_written().detach().cpu().tolist(), one.scores.tolist(), vectors)
    for label, box, score, vector in zip(*columns, strict=True):
        category = truth.category_ids[label - 1]
        record = {"image_id": one.image, "category_id": category, "bbox": box, "score": score}
        yield record if vector is None else {**record, "scores": vector}


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a results file, one record a line, whole or not at all."""
    with whole_file(path) as file:
        between = b"[\n"
        for record in records:
            file.write(between + json.dumps(record, separators=(",", ":")).encode())
            between = b",\n"
        file.write((b"[" if between == b"[\n" else b"") + b"\n]\n")


def read_records(path: Path) -> list[Any]:
    """Return the list that a results file holds, whatever its records are.

    Raises:
        ArgumentError: if it cannot be read or is no list.
    """
    try:
        records = json.loads(path.read_bytes())
    except OSError as error:
        raise ArgumentError(
            f"{path}: cannot be read ({error.strerror}); expected a COCO results file"
        ) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or brackets without end, too
        raise ArgumentError(f"{path}: is not JSON ({error}); expected a COCO results file") from None
    if not isinstance(records, list):
        raise ArgumentError(f"{path}: got {type(records).__name__}; expected a list of records")
    return records


def read_detections(path: Path, truth: BoxSet) -> list[Detections]:
    """Read a results file of any detector, an entry for each image of `truth` in its order.

    A record may have `scores`, a number for each class in the order of `truth.category_ids`; either all records
    have it or none. Where it has no `category_id` and `score` beside them, or null, they are those of the highest
    score. Boxes and scores are scored as the file has them, in 64 bits.

    Args:
        path: of the file.
        truth: the images that were looked at.

    Raises:
        ArgumentError: if the file is missing or no such list, or a record names an unknown image or category or has
            a box or a score that is none; it names the file and the record, the first being 1.
    """
    labels = {category: label for label, category in enumerate(truth.category_ids, start=1)}
    found: dict[int | str, list[_Found]] = {picture.id: [] for picture in truth.pictures}
    several: bool | None = None  # whether records have the scores of all classes
    for count, record in enumerate(read_records(Path(path)), start=1):
        where = f"{path}, record {count}"
        require(
            isinstance(record, dict), where, type(record).__name__, "an object with image_id, bbox and score"
        )
        image = image_id(record.get("image_id"))
        known = image is not None and image in found
        require(known, where, f"image_id {record.get('image_id')!r}", f"an image of {truth.name}")
        box, label, score, vector = _checked(where, record, truth, labels)
        several = vector is not None if several is None else several
        legal = "scores in all records or in none"
        require(several == (vector is not None), where, "scores in some records", legal)
        found[image].append((box, label, score, vector))  # type: ignore[index]
    return [_detections(image, rows, len(labels) if several else None) for image, rows in found.items()]


_Found = tuple[list[float], int, float, list[float] | None]
"""Box, label, score, and the scores of all classes."""


def _checked(where: str, record: dict[str, Any], truth: BoxSet, labels: Mapping[int, int]) -> _Found:
    box, vector = record.get("bbox"), record.get("scores")
    good = _numbers(box, 4) and box[2] >= 0 and box[3] >= 0  # type: ignore[index]
    require(good, where, f"bbox {box!r}", "[x, y, width, height], finite, no side below 0")
    category, score = record.get("category_id"), record.get("score")
    if vector is not None:
        got = f"{len(vector)} scores" if isinstance(vector, list) else f"scores {vector!r}"
        legal = f"a finite number for each of the {len(labels)} classes"
        require(_numbers(vector, len(labels)), where, got, legal)
        highest = max(range(len(vector)), key=vector.__getitem__)
        category = truth.category_ids[highest] if category is None else category
        score = vector[highest] if score is None else score
    label = labels.get(own) if (own := integer_id(category)) is not None else None
    require(label is not None, where, f"category_id {category!r}", f"a category of {truth.name}")
    require(_numbers([score], 1), where, f"score {score!r}", "a finite number")
    return box, label, score, vector  # type: ignore[return-value]


def _numbers(value: object, count: int) -> bool:
    """Whether a list has so many numbers, all finite and no larger than single precision holds."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(x) in {int, float} and -_LARGEST <= x <= _LARGEST for x in value)
    )


def _detections(image: int | str, found: list[_Found], classes: int | None) -> Detections:
    written = torch.tensor([box for box, *_ in found], dtype=torch.float64).reshape(-1, 4)
    return Detections(
        image,
        corners_of(written).float(),
        torch.tensor([label for _, label, *_ in found], dtype=torch.int64),
        # In 64 bits: scores that are not the same in the file are not to become so.
        torch.tensor([score for _, _, score, _ in found], dtype=torch.float64),
        None if classes is None else torch.tensor([vector for *_, vector in found]).reshape(-1, classes),
        written,
    )
