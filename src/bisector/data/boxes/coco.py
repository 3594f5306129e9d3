"""Reads COCO and LVIS json files."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bisector.data.boxes.annotations import (
    FLAGS,
    Annotation,
    ImageInfo,
    LeftOut,
    flag,
    image_id,
    integer_id,
    number,
    pictures_of,
)
from bisector.data.boxes.box_set import BoxSet
from bisector.data.boxes.layout import find_images, require_images
from bisector.data.boxes.picture import stored_size
from bisector.errors import ArgumentError, missing_extra

Record = dict[str, Any]

_OF_MASK = "bbox of segmentation"  # marks a box that the file does not have


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

    Boxes are cut at the border of their image; one of which nothing is left, or that is no box, is left out,
    which is reported. A box that is missing is that of its mask. An annotation whose `iscrowd` is set is kept as a
    crowd. Ids may be written as texts, and that of an image be any text.

    Args:
        file: the json file.
        images: the folder of the images, or several of which that is taken that holds most of them; None: none, for
            a file that is only scored against.
        train: the set trained on, whose classes this one is to have.
        name: of the set, for people; None: that of the file.
        skip_missing: leave out images whose file is missing, and report them; otherwise that is an error.
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
    content = _content(path)
    records = _images(path.name, content["images"])
    lvis = any("neg_category_ids" in record for record in records)
    listed = {integer_id(category.get("id")) for category in content["categories"]} - {None}
    annotations = _annotations(path.name, content["annotations"], listed, records, faults)
    names, ids, frequency = _categories(path.name, content["categories"], faults, lvis=lvis)
    if train is not None:
        _require_among(path.name, names, ids, train)
        names, ids, frequency = train.class_names, train.category_ids, train.frequency
    labels = {category: label for label, category in enumerate(ids, 1)}

    places = [_places(record) for record in records]
    root: Path | None = None
    found: list[str | None] = [some[0] for some in places]
    if images is not None:
        folders = [Path(images).expanduser()] if isinstance(images, str | Path) else list(images)
        root, found = find_images(places, folders)
        if not need_images:
            found = [file or some[0] for file, some in zip(found, places, strict=True)]
        looked_at = root or next((folder for folder in folders if folder.is_dir()), folders[0])
        lost = [
            f"{some[0]} (image {record['id']})"
            for record, some, file in zip(records, places, found, strict=True)
            if file is None
        ]
        require_images(lost, len(records), looked_at, faults, skip_missing=skip_missing)
    infos, rows = [], []
    for record, image in zip(records, found, strict=True):
        if image is not None:
            size = _size(path.name, record, image, root)
            known = (
                _labels_named(path.name, record, field, labels)
                for field in ("neg_category_ids", "not_exhaustive_category_ids")
            )
            infos.append(ImageInfo(record["id"], image, *size, *known))
            rows.append([_row(annotation, labels) for annotation in annotations.get(record["id"], ())])
    return BoxSet(
        pictures_of(infos, rows, faults),
        names,
        name=name or path.stem,
        style="lvis" if lvis else "coco",
        category_ids=ids,
        frequency=frequency,
        left_out=faults.lines(),
        root=root,
    )


def box_around(mask: object) -> list[float] | None:
    """Box (x, y, width, height) of a mask as COCO's files have it; None where it holds none.

    A polygon's box goes through its outermost points, as in COCO's own files; that of a run-length encoding, also
    a compressed one, around its pixels. A mask is polygons [[x1, y1, x2, y2, ...], ...], one such polygon, or
    {"size": [height, width], "counts": ...}.

    >>> box_around([[2, 3, 12, 3, 12, 8], [1, 4, 2, 4, 2, 5]])
    [1.0, 3.0, 11.0, 5.0]
    >>> box_around({"size": [4, 5], "counts": [5, 2, 2, 2, 9]})
    [1.0, 1.0, 2.0, 2.0]
    """
    if isinstance(mask, dict):
        return _around_runs(mask.get("size"), mask.get("counts"))
    polygons = mask if isinstance(mask, list) else []
    if polygons and not isinstance(polygons[0], list):
        polygons = [polygons]
    if not all(isinstance(polygon, list) and len(polygon) % 2 == 0 for polygon in polygons):
        return None
    points = list(map(number, chain.from_iterable(polygons)))
    if not points or not all(map(math.isfinite, points)):
        return None
    left, top = min(points[::2]), min(points[1::2])
    return [left, top, max(points[::2]) - left, max(points[1::2]) - top]


def _around_runs(size: object, counts: object) -> list[float] | None:
    try:
        from faster_coco_eval import mask as masks
    except ImportError:
        raise missing_extra("faster-coco-eval", "detection") from None
    if not (isinstance(size, list) and len(size) == 2 and all(number(side) >= 1 for side in size)):
        return None
    height, width = (int(number(side)) for side in size)
    try:
        if isinstance(counts, list):
            runs = masks.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        else:
            runs = {"size": [height, width], "counts": str(counts).encode("ascii")}
        x, y, across, down = (float(value) for value in masks.toBbox(runs))
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return None
    # Runs that are none end anywhere.
    return [x, y, across, down] if x + across <= width and y + down <= height else None


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
    for key in ("images", "annotations", "categories"):
        records = content.get(key)
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            fault = f"its {key!r} are no list of objects" if key in content else f"it has no {key!r}"
            raise ArgumentError(f"data: {path} is no COCO file: {fault}")
    return content


def _without_masks(record: Record) -> Record:
    """Let go of masks as soon as they are parsed: they are three quarters of a file of LVIS, and no box."""
    if record.get("segmentation") and not record.get("bbox"):
        record["bbox"] = box_around(record["segmentation"])
        record[_OF_MASK] = record["bbox"] is not None
    for key in ("segmentation", "keypoints"):
        record.pop(key, None)
    return record


def _readable(record: Record) -> Record:
    """Replace halves of characters, which JSON can hold and no page and no terminal."""
    for key, value in record.items():
        if isinstance(value, str):
            record[key] = value.encode(errors="replace").decode()
    return _without_masks(record)


def _images(file: str, images: list[Record]) -> list[Record]:
    """The images with their ids read, none twice."""
    seen: set[int | str] = set()
    for image in images:
        own = image_id(image.get("id"))
        if own is None:
            raise ArgumentError(f"{file}: image id {image.get('id')!r} is no integer and no text")
        if own in seen:
            raise ArgumentError(f"{file}: image id {own} is there twice")
        image["id"] = own
        seen.add(own)
    return images


def _categories(
    file: str, categories: list[Record], faults: LeftOut, *, lvis: bool
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...] | None]:
    """The names, the ids and the letters of frequency of the classes; None for letters of which one is missing."""
    if not categories:
        raise ArgumentError(f"{file}: it has no categories")
    ids: list[int] = []
    seen: set[int] = set()
    for category in categories:
        own = integer_id(category.get("id"))
        if own is None or own in seen:
            fault = "is no integer" if own is None else "is there twice"
            raise ArgumentError(f"{file}: category id {category.get('id')!r} {fault}")
        ids.append(own)
        seen.add(own)
    given = [category.get("name") for category in categories]
    called = [str(own if name in (None, "") else name) for name, own in zip(given, ids, strict=True)]
    times = Counter(called)
    # Two of one name stay two: people are to see which is which.
    names = tuple(f"{n} ({own})" if times[n] > 1 else n for n, own in zip(called, ids, strict=True))
    letters = tuple(str(category.get("frequency", "")) for category in categories)
    without = [place for place, letter in enumerate(letters) if letter not in {"r", "c", "f"}]
    if without and (lvis or len(without) < len(letters)):
        first = f"category {ids[without[0]]} ({names[without[0]]})"
        fault = "without a frequency of r, c or f; groups are by the training images"
        faults.add(fault, first, count=len(without), what="categories")
    return names, tuple(ids), None if without else letters


def _require_among(file: str, names: Sequence[str], ids: Sequence[int], train: BoxSet) -> None:
    """Require classes of training, by id and name; they may be fewer and in another order."""
    known = dict(zip(train.category_ids, train.class_names, strict=True))
    for category, name in zip(ids, names, strict=True):
        if known.get(category) not in {name, f"{name} ({category})"}:
            has = f"{known[category]!r}" if category in known else "none"
            raise ArgumentError(
                f"{file}: category {category} is {name!r}, and {has} in {train.name}; "
                "expected the same ids and names"
            )


def _annotations(
    file: str, annotations: list[Record], categories: set[int | None], images: list[Record], faults: LeftOut
) -> dict[int | str, list[Record]]:
    """The annotations of each image, with ids and flags read."""
    known = {image["id"] for image in images}
    kept = []
    for annotation in annotations:
        where = f"annotation {annotation.get('id')} (image {annotation.get('image_id')})"
        category = integer_id(annotation.get("category_id"))
        if category not in categories:  # it may be a whole class that is missing
            raise ArgumentError(
                f"{file}: {where} is of category {annotation.get('category_id')!r}, which the file does not list"
            )
        crowd = flag(annotation.get("iscrowd"))
        if crowd is None:
            raise ArgumentError(f"{file}: {where} has iscrowd {annotation['iscrowd']!r}; expected {FLAGS}")
        if annotation.get(_OF_MASK):
            faults.add("without a bbox, which is taken from their segmentation", where)
        if flag(annotation.get("ignore")) and not crowd:
            faults.add("marked `ignore`, kept: COCO's rule looks at `iscrowd` alone", where)
        image = image_id(annotation.get("image_id"))
        if image in known:
            annotation.update(category_id=category, iscrowd=crowd, image_id=image)
            kept.append(annotation)
        else:
            where = f"annotation {annotation.get('id')} (image {annotation.get('image_id')!r})"
            faults.add("of an image that is not in the file, left out", where)
    # Scoring takes 0 for "unmatched", and equal ids for one box.
    numbers = [integer_id(annotation.get("id")) for annotation in kept]
    new = max([0, *(own for own in numbers if own is not None)])
    seen: set[int] = set()
    of_image: dict[int | str, list[Record]] = {}
    for annotation, own in zip(kept, numbers, strict=True):
        if own is None or own <= 0 or own in seen:
            where = f"annotation {annotation.get('id')} (image {annotation['image_id']})"
            faults.add("without an id above 0 of their own, numbered anew", where)
            own = new = new + 1  # noqa: PLW2901
        seen.add(own)
        annotation["id"] = own
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    return of_image


def _places(record: Record) -> list[str]:
    """The paths at which an image may lie, the likeliest first; never none. LVIS names it only by its address."""
    url = record.get("coco_url")
    below = "/".join(url.split("/")[-2:]) if isinstance(url, str) and url.count("/") >= 2 else None
    names = [below, record.get("file_name")]
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


def _labels_named(file: str, image: Record, field: str, labels: Mapping[int, int]) -> tuple[int, ...]:
    """The labels of the categories that an image of LVIS names (Gupta et al. 2019)."""
    named = image.get(field)
    if named is None:
        return ()
    if not isinstance(named, list):
        raise ArgumentError(
            f"{file}: image {image['id']} has {field} {named!r}; expected a list of category ids"
        )
    found = []
    for category in named:
        own = integer_id(category)
        if own is None or own not in labels:
            raise ArgumentError(
                f"{file}: image {image['id']} names category {category!r} in {field}: unknown"
            )
        found.append(labels[own])
    return tuple(found)


def _row(annotation: Record, labels: Mapping[int, int]) -> Annotation:
    box: Any = annotation.get("bbox")
    x, y, width, height = map(number, box) if isinstance(box, list) and len(box) == 4 else [math.nan] * 4
    return Annotation(
        id=annotation["id"],
        label=labels[annotation["category_id"]],
        corners=(x, y, x + width, y + height),
        crowd=annotation["iscrowd"],
        area=number(annotation.get("area")),
        written=(x, y, width, height),
    )
