"""Reads Pascal VOC folders: Annotations/*.xml, ImageSets/Main/*.txt and JPEGImages."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from bisector.data.boxes.box_set import BoxSet
from bisector.data.boxes.files import missing_images
from bisector.data.boxes.left_out import LeftOut
from bisector.data.boxes.pixels import stored_size
from bisector.data.boxes.table import Frame, Row, pictures_of
from bisector.data.boxes.voc_file import Annotation, VocList

_IMAGES = "JPEGImages"


def voc_boxes(
    folder: Path,
    listed: VocList,
    class_names: Sequence[str],
    *,
    name: str,
    first: int = 1,
    skip_missing: bool = False,
    need_images: bool = True,
) -> BoxSet:
    """The pictures of one list.

    Coordinates are taken as they stand, as torchvision and most programs do, and scored as they stand. (VOC's own
    count pixels from 1, the last one in: read so, a box begins one pixel late. Those of other programs do not.)
    Objects marked difficult are crowds: not trained on, and ignored when scored.

    Args:
        folder: that holds Annotations.
        listed: what was parsed.
        class_names: of label 1, 2, ...
        name: of the set.
        first: id of the first image of the list; those of all parts are different.
        skip_missing: leave out images whose file is missing, and tell; otherwise that is an error.
        need_images: whether files must be there; without, as for a set that is only scored against, every image of
            the list is kept.

    Raises:
        ArgumentError: if image files are missing.
    """
    faults = LeftOut(f"{folder.name} {listed.name}")
    place = folder / _IMAGES
    files = frozenset(os.listdir(place) if place.is_dir() else ())  # noqa: PTH208
    stems = {file.rpartition(".")[0]: file for file in sorted(files, reverse=True)}
    labels = {name: label for label, name in enumerate(class_names, 1)}
    found, lost = [], []
    for number, (image, annotation) in enumerate(zip(listed.images, listed.annotations, strict=True), first):
        file = _file(image, annotation, files, stems)
        if file is not None or not need_images:
            found.append((number, file or f"{image}.jpg", annotation))
        else:
            lost.append(f"{image}.jpg (image {number})")
    if lost and not (skip_missing and found):
        raise missing_images(len(lost), len(listed.images), lost, place)
    if lost:
        faults.add("without a file, left out", lost[0], count=len(lost), what="images")

    frames = [
        Frame(number, f"{_IMAGES}/{file}", *_size(annotation, place / file))
        for number, file, annotation in found
    ]
    rows: list[list[Row]] = []
    next_id = 1
    for _, _, annotation in found:
        rows.append([_row(next_id + i, thing, labels) for i, thing in enumerate(annotation["object"])])
        next_id += len(rows[-1])
    return BoxSet(
        pictures_of(frames, rows, faults),
        class_names,
        name=name,
        style="voc",
        left_out=faults.lines(),
        root=folder if files else None,
    )


def _file(image: str, annotation: Annotation, files: frozenset[str], stems: dict[str, str]) -> str | None:
    """VOC's own is the list's name with .jpg; others' may have another suffix, or the name that the xml tells."""
    told = annotation.get("filename")
    for file in (f"{image}.jpg", stems.get(image), told):
        if isinstance(file, str) and file in files:
            return file
    return None


def _size(annotation: Annotation, image: Path) -> tuple[int, int]:
    size = annotation.get("size")
    sides = [_number(size, side) for side in ("width", "height")]
    if all(side >= 1 for side in sides):  # programs that do not know it write 0; NaN is not >= 1
        return int(sides[0]), int(sides[1])
    return stored_size(image)


def _row(number: int, thing: Annotation, labels: dict[str, int]) -> Row:
    box = thing.get("bndbox")
    x1, y1, x2, y2 = corners = (
        _number(box, "xmin"),
        _number(box, "ymin"),
        _number(box, "xmax"),
        _number(box, "ymax"),
    )
    return Row(
        id=number,
        label=labels[thing["name"]],
        corners=corners,
        crowd=_number(thing, "difficult") == 1,
        area=math.nan,
        written=(x1, y1, x2 - x1, y2 - y1),
    )


def _number(record: object, field: str) -> float:
    try:
        return float(record[field]) if isinstance(record, dict) else math.nan
    except (KeyError, TypeError, ValueError):
        return math.nan
