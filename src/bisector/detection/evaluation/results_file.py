"""Detections as COCO's results files have them: a JSON list with a record a box."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.data.boxes.annotations import image_id, integer_id
from bisector.data.boxes.picture import corners_of
from bisector.detection.evaluation.detections import Detections, require_detections
from bisector.errors import ArgumentError, require
from bisector.files import whole_file

_MOST = 1e30


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
    with whole_file(Path(path)) as file:
        file.write(b"[")
        between = b"\n"
        for one in detections:
            for record in _records(truth, one):
                file.write(between + json.dumps(record, separators=(",", ":")).encode())
                between = b",\n"
        file.write(b"\n]\n")


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
    path = Path(path)
    records = read_records(path)
    reader = _Reader(path, truth)
    for number, record in enumerate(records, start=1):
        reader.add(number, record)
    return reader.detections()


def read_records(path: Path) -> list[Any]:
    """The list that a results file holds, whatever its records are.

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


def _records(truth: BoxSet, one: Detections) -> list[dict[str, Any]]:
    # In double precision, so that corner plus side is the other corner again to the last bit.
    boxes = one.as_written().detach().cpu().tolist()
    labels, scores = one.labels.tolist(), one.scores.tolist()
    records: list[dict[str, Any]] = [
        {"image_id": one.image, "category_id": truth.category_ids[label - 1], "bbox": box, "score": score}
        for box, label, score in zip(boxes, labels, scores, strict=True)
    ]
    if one.class_scores is not None:
        for record, vector in zip(records, one.class_scores.tolist(), strict=True):
            record["scores"] = vector
    return records


class _Reader:
    def __init__(self, path: Path, truth: BoxSet) -> None:
        self.path, self.truth = path, truth
        self.labels = {category: label for label, category in enumerate(truth.category_ids, start=1)}
        self.of: dict[int | str, list[tuple[list[float], int, float, list[float] | None]]] = {
            picture.id: [] for picture in truth.pictures
        }
        self.vectors: bool | None = None

    def add(self, number: int, record: object) -> None:
        def check(good: bool, what: str, expected: str) -> None:
            require(good, f"{self.path}, record {number}", what, expected)

        check(isinstance(record, dict), type(record).__name__, "an object with image_id, bbox and score")
        assert isinstance(record, dict)
        image, box, vector = image_id(record.get("image_id")), record.get("bbox"), record.get("scores")
        check(image in self.of, f"image_id {record.get('image_id')!r}", f"an image of {self.truth.name}")
        good = _numbers(box, 4) and box[2] >= 0 and box[3] >= 0  # type: ignore[index]
        check(good, f"bbox {box!r}", "[x, y, width, height], finite, no side below 0")
        if self.vectors is None:
            self.vectors = vector is not None
        check(
            self.vectors == (vector is not None), "scores in some records", "scores in all records or in none"
        )
        if vector is not None:
            got = f"{len(vector)} scores" if isinstance(vector, list) else f"scores {vector!r}"
            good = _numbers(vector, len(self.labels))
            check(good, got, f"a finite number for each of the {len(self.labels)} classes")
            best = max(range(len(vector)), key=vector.__getitem__)
            told = {key: value for key, value in record.items() if value is not None}
            record = {"category_id": self.truth.category_ids[best], "score": vector[best]} | told
        category, score = integer_id(record.get("category_id")), record.get("score")
        legal = f"a category of {self.truth.name}"
        check(category in self.labels, f"category_id {record.get('category_id')!r}", legal)
        check(_numbers([score], 1), f"score {score!r}", "a finite number")
        self.of[image].append((box, self.labels[category], score, vector))  # type: ignore

    def detections(self) -> list[Detections]:
        return [self._of_image(image, found) for image, found in self.of.items()]

    def _of_image(
        self, image: int | str, found: list[tuple[list[float], int, float, list[float] | None]]
    ) -> Detections:
        boxes = torch.tensor([box for box, *_ in found], dtype=torch.float64).reshape(-1, 4)
        vectors: Tensor | None = None
        if self.vectors:
            vectors = torch.tensor([one[3] for one in found]).reshape(-1, len(self.labels))
        return Detections(
            image,
            corners_of(boxes).float(),
            torch.tensor([one[1] for one in found], dtype=torch.int64),
            # In 64 bits: scores that are not the same in the file are not to become so.
            torch.tensor([one[2] for one in found], dtype=torch.float64),
            vectors,
            boxes,
        )


def _numbers(value: object, count: int) -> bool:
    """Whether a list has so many numbers, all finite and no larger than single precision holds."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(x) in {int, float} and -_MOST <= x <= _MOST for x in value)
    )
