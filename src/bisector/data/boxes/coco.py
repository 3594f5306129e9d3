"""Reads COCO and LVIS json files."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from bisector.data.boxes.box_set import BoxSet
from bisector.data.boxes.classes import Classes
from bisector.data.boxes.coco_file import CocoFile, Record
from bisector.data.boxes.files import find_images, missing_images
from bisector.data.boxes.left_out import LeftOut
from bisector.data.boxes.lvis import is_lvis, labels_named, url_path
from bisector.data.boxes.pixels import stored_size
from bisector.data.boxes.table import Frame, Row, pictures_of
from bisector.data.boxes.values import number
from bisector.errors import ArgumentError


def read_coco(
    file: str | Path,
    images: str | Path | Iterable[Path] | None = None,
    *,
    train: BoxSet | None = None,
    name: str | None = None,
    skip_missing: bool = False,
    need_images: bool = True,
) -> BoxSet:
    """Read the boxes of a COCO json file, or of an LVIS one (its images name the classes verified to be absent).

    Boxes are cut at the border of their image; one of which nothing is left, or that is no box, is left out and
    told. A box that is missing is that of its mask. An annotation whose `iscrowd` is set is kept as a crowd. Ids
    may be written as texts, and that of an image be any text.

    Args:
        file: the json file.
        images: the folder of the images, or several of which that is taken that holds most of them; None: none, for
            a file that is only scored against.
        train: the set trained on, whose classes this one is to have.
        name: of the set, for people; None: that of the file.
        skip_missing: leave out images whose file is missing, and tell; otherwise that is an error.
        need_images: whether a folder given must hold all images; without, as for a set that is only scored
            against, every record is kept whatever files are there.

    Raises:
        ArgumentError: if this is no COCO file, an annotation names an unknown category, a category is not among
            those trained on, or image files are missing.
        MissingExtraError: if a box must be made from a run-length encoded mask, and faster-coco-eval is not
            installed.
    """
    path = Path(file).expanduser()
    faults = LeftOut(path.name)
    opened = CocoFile(path, faults)
    lvis = is_lvis(opened.images)
    classes = Classes.of(opened.name, opened.categories, faults, lvis=lvis)
    if train is not None:
        trained = Classes(train.class_names, train.category_ids, train.frequency)
        classes.require_among(opened.name, trained, train.name)
        classes = trained

    records = opened.images
    names = [_names(record) for record in records]
    root: Path | None = None
    files: list[str | None] = [some[0] for some in names]
    if images is not None:
        folders = [Path(images).expanduser()] if isinstance(images, str | Path) else list(images)
        root, files = find_images(names, folders)
        if not need_images:
            files = [found or some[0] for found, some in zip(files, names, strict=True)]
        lost = [
            f"{some[0]} (image {record['id']})"
            for record, some, found in zip(records, names, files, strict=True)
            if found is None
        ]
        if lost and (root is None or not skip_missing):
            looked_at = root or next((folder for folder in folders if folder.is_dir()), folders[0])
            raise missing_images(len(lost), len(names), lost, looked_at)
        if lost:
            faults.add("without a file, left out", lost[0], count=len(lost), what="images")
    held = [(record, found) for record, found in zip(records, files, strict=True) if found is not None]
    labels = classes.labels()
    frames = [_frame(opened.name, record, image, root, labels) for record, image in held]
    rows = [[_row(a, labels) for a in opened.annotations(record["id"])] for record, _ in held]
    return BoxSet(
        pictures_of(frames, rows, faults),
        classes.names,
        name=name or path.stem,
        style="lvis" if lvis else "coco",
        category_ids=classes.ids,
        frequency=classes.frequency,
        left_out=faults.lines(),
        root=root,
    )


def _frame(file: str, record: Record, image: str, root: Path | None, labels: Mapping[int, int]) -> Frame:
    return Frame(
        record["id"],
        image,
        *_size(file, record, image, root),
        negative=labels_named(file, record, "neg_category_ids", labels),
        not_exhaustive=labels_named(file, record, "not_exhaustive_category_ids", labels),
    )


def _row(annotation: Record, labels: Mapping[int, int]) -> Row:
    x, y, width, height = written = _box(annotation)
    return Row(
        id=annotation["id"],
        label=labels[annotation["category_id"]],
        corners=(x, y, x + width, y + height),
        crowd=annotation.get("iscrowd", False),
        area=number(annotation.get("area")),
        written=written,
    )


def _names(record: Record) -> list[str]:
    """The paths at which an image may lie, the likeliest first; never none."""
    names = [url_path(record), record.get("file_name")]
    return [name for name in names if isinstance(name, str) and name] or [f"image {record['id']}"]


def _size(file: str, record: Record, image: str, root: Path | None) -> tuple[int, int]:
    """Width and height as the file says, else as the image does."""
    size = (record.get("width"), record.get("height"))
    width, height = map(number, size)
    if width >= 1 and height >= 1:  # NaN is not
        return int(width), int(height)
    if root is None:
        raise ArgumentError(f"{file}: image {record['id']} ({image}) is {size[0]!r} x {size[1]!r} pixels")
    return stored_size(root / image)


def _box(annotation: Record) -> tuple[float, float, float, float]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return math.nan, math.nan, math.nan, math.nan
    x, y, width, height = map(number, box)
    return x, y, width, height
