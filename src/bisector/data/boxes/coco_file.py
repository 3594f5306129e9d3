"""Opens a COCO or LVIS file through faster-coco-eval's index, having seen that nothing in it is amiss."""

import json
import warnings
from pathlib import Path
from typing import Any

from bisector.data.boxes.left_out import LeftOut
from bisector.errors import ArgumentError, missing_extra

_LISTS = ("images", "annotations", "categories")

# Three quarters of a file of LVIS, and no box: let go of as soon as they are parsed.
_MASKS = ("segmentation", "keypoints")

Record = dict[str, Any]


class CocoFile:
    """What a COCO or LVIS file holds: images, categories, and the annotations of each image.

    Args:
        path: of the json file.
        faults: is told what could not be used.

    Raises:
        ArgumentError: if there is no such file, it is no COCO file, two images have one id, or an annotation is
            of a category that the file does not list.
        MissingExtraError: if faster-coco-eval is not installed.
    """

    def __init__(self, path: Path, faults: LeftOut) -> None:
        try:
            from faster_coco_eval import COCO
        except ImportError:
            raise missing_extra("faster-coco-eval", "detection") from None
        content = _content(path)
        self.name = path.name
        self.categories: list[Record] = content["categories"]
        self.images: list[Record] = content["images"]
        known = _images_by_id(self.name, self.images)
        _require_known(self.name, content["annotations"], self.categories)
        content["annotations"] = _with_ids(_of_images(content["annotations"], known, faults), faults)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._index: Any = COCO(content)

    def annotations(self, image: int) -> list[Record]:
        """Those of one image, in the file's order."""
        found: list[Record] = self._index.imgToAnns.get(image, [])
        return found


def _content(path: Path) -> Record:
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = json.load(file, object_hook=_without_masks)
    except FileNotFoundError:
        raise ArgumentError(f"data: no file {path}") from None
    except OSError as error:
        raise ArgumentError(f"data: {path} cannot be read: {error.strerror or error}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArgumentError(f"data: {path} is no json file: {error}") from None
    if not isinstance(content, dict):
        raise ArgumentError(
            f"data: {path} is no COCO file: it holds a {type(content).__name__}, not an object"
        )
    for key in _LISTS:
        records = content.get(key)
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            fault = f"its {key!r} are no list of objects" if key in content else f"it has no {key!r}"
            raise ArgumentError(f"data: {path} is no COCO file: {fault}")
    return content


def _without_masks(record: Record) -> Record:
    for key in _MASKS:
        record.pop(key, None)
    return record


def _images_by_id(file: str, images: list[Record]) -> dict[int, Record]:
    known: dict[int, Record] = {}
    for image in images:
        number = integer_id(image.get("id"))
        if number is None:
            raise ArgumentError(f"{file}: image id {image.get('id')!r} is no integer")
        if number in known:
            raise ArgumentError(f"{file}: image id {number} is there twice")
        image["id"] = number
        known[number] = image
    return known


def _require_known(file: str, annotations: list[Record], categories: list[Record]) -> None:
    """An unknown category is an error: it may stand for a whole class that would be missing."""
    known = {category.get("id") for category in categories if type(category.get("id")) is int}
    for annotation in annotations:
        category = annotation.get("category_id")
        if type(category) is not int or category not in known:
            raise ArgumentError(
                f"{file}: annotation {annotation.get('id')} (image {annotation.get('image_id')}) is of category "
                f"{category!r}, which the file does not list"
            )


def _of_images(annotations: list[Record], known: dict[int, Record], faults: LeftOut) -> list[Record]:
    kept = []
    for annotation in annotations:
        image = integer_id(annotation.get("image_id"))
        if image in known:
            annotation["image_id"] = image
            kept.append(annotation)
        else:
            where = f"annotation {annotation.get('id')} (image {annotation.get('image_id')!r})"
            faults.add("of an image that is not in the file, left out", where)
    return kept


def _with_ids(annotations: list[Record], faults: LeftOut) -> list[Record]:
    """Give every annotation an id of its own above 0: scoring takes 0 for "unmatched" and equal ids for one box."""
    numbers = [integer_id(annotation.get("id")) for annotation in annotations]
    new = max((number for number in numbers if number is not None), default=0)
    seen: set[int] = set()
    for annotation, number in zip(annotations, numbers, strict=True):
        if number is None or number <= 0 or number in seen:
            where = f"annotation {annotation.get('id')} (image {annotation['image_id']})"
            faults.add("without an id above 0 of their own, numbered anew", where)
            new = max(new, 0) + 1
            number = new  # noqa: PLW2901
        seen.add(number)
        annotation["id"] = number
    return annotations


def integer_id(value: object) -> int | None:
    """An integer of 63 bits, also one written as a float or in digits; else None."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19
    if digits or (isinstance(value, float) and value.is_integer()):
        value = int(value)  # type: ignore[call-overload]  # one of these it is
    return value if type(value) is int and abs(value) < 2**62 else None
