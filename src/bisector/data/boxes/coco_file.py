"""Opens a COCO or LVIS file, having seen that nothing in it is amiss."""

import json
import re
from pathlib import Path
from typing import Any

from bisector.data.boxes.left_out import LeftOut
from bisector.data.boxes.masks import box_around
from bisector.data.boxes.values import FLAGS, flag, image_id, integer_id
from bisector.errors import ArgumentError

_LISTS = ("images", "annotations", "categories")

# Three quarters of a file of LVIS, and no box: let go of as soon as they are parsed.
_MASKS = ("segmentation", "keypoints")

_OF_MASK = "bbox of segmentation"  # marks a box that the file does not have

Record = dict[str, Any]


class CocoFile:
    """What a COCO or LVIS file holds: images, categories, and the annotations of each image.

    Args:
        path: of the json file.
        faults: is told what could not be used.

    Raises:
        ArgumentError: if there is no such file, it is no COCO file, two images have one id, or an annotation is
            of a category that the file does not list or has an `iscrowd` that is no flag.
        MissingExtraError: if a box must be made from a run-length encoded mask, and faster-coco-eval is not
            installed.
    """

    def __init__(self, path: Path, faults: LeftOut) -> None:
        content = _content(path)
        self.name = path.name
        self.categories: list[Record] = content["categories"]
        self.images: list[Record] = content["images"]
        known = _images_by_id(self.name, self.images)
        _read_ids_and_flags(self.name, content["annotations"], self.categories, faults)
        self._of: dict[int | str, list[Record]] = {}
        for annotation in _with_ids(_of_images(content["annotations"], known, faults), faults):
            self._of.setdefault(annotation["image_id"], []).append(annotation)

    def annotations(self, image: int | str) -> list[Record]:
        """Those of one image, in the file's order."""
        return self._of.get(image, [])


def _content(path: Path) -> Record:
    try:
        data = path.read_bytes()
        text = data.decode(json.detect_encoding(data))
        halves = re.search(r"\\u[dD]", text)
        content = json.loads(text, object_hook=_readable if halves else _without_masks)
    except FileNotFoundError:
        raise ArgumentError(f"data: no file {path}") from None
    except OSError as error:
        raise ArgumentError(f"data: {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or an integer without end, too
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
    if record.get("segmentation") and not record.get("bbox"):
        record["bbox"] = box_around(record["segmentation"])
        record[_OF_MASK] = record["bbox"] is not None
    for key in _MASKS:
        record.pop(key, None)
    return record


def _readable(record: Record) -> Record:
    """Replace halves of characters, which JSON can hold and no page and no terminal."""
    for key, value in record.items():
        if isinstance(value, str):
            record[key] = value.encode(errors="replace").decode()
    return _without_masks(record)


def _images_by_id(file: str, images: list[Record]) -> dict[int | str, Record]:
    known: dict[int | str, Record] = {}
    for image in images:
        own = image_id(image.get("id"))
        if own is None:
            raise ArgumentError(f"{file}: image id {image.get('id')!r} is no integer and no text")
        if own in known:
            raise ArgumentError(f"{file}: image id {own} is there twice")
        image["id"] = own
        known[own] = image
    return known


def _read_ids_and_flags(
    file: str, annotations: list[Record], categories: list[Record], faults: LeftOut
) -> None:
    """Read in place what programs write as text too. An unknown category may be a whole class that is missing."""
    for category in categories:
        number = integer_id(category.get("id"))
        category["id"] = category.get("id") if number is None else number
    known = {category["id"] for category in categories if type(category["id"]) is int}
    for annotation in annotations:
        category_id = integer_id(annotation.get("category_id"))
        where = f"annotation {annotation.get('id')} (image {annotation.get('image_id')})"
        if category_id not in known:
            raise ArgumentError(
                f"{file}: {where} is of category {annotation.get('category_id')!r}, which the file does not list"
            )
        annotation["category_id"] = category_id
        if "iscrowd" in annotation:
            crowd = flag(annotation["iscrowd"])
            if crowd is None:
                raise ArgumentError(
                    f"{file}: {where} has iscrowd {annotation['iscrowd']!r}; expected {FLAGS}"
                )
            annotation["iscrowd"] = crowd
        if annotation.pop(_OF_MASK, False):
            faults.add("without a bbox, which is taken from their segmentation", where)
        if flag(annotation.get("ignore")) and not annotation.get("iscrowd"):
            faults.add("marked `ignore`, kept: COCO's rule looks at `iscrowd` alone", where)


def _of_images(annotations: list[Record], known: dict[int | str, Record], faults: LeftOut) -> list[Record]:
    kept = []
    for annotation in annotations:
        image = image_id(annotation.get("image_id"))
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
