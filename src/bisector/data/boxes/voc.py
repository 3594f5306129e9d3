"""Reads Pascal VOC folders: Annotations/*.xml, ImageSets/Main/*.txt and JPEGImages."""

import math
from collections.abc import Sequence
from pathlib import Path

from bisector.data.boxes.box_set import BoxSet
from bisector.data.boxes.files import missing_images
from bisector.data.boxes.left_out import LeftOut
from bisector.data.boxes.pixels import stored_size
from bisector.data.boxes.table import Frame, Row, pictures_of
from bisector.data.boxes.values import flag, number
from bisector.data.boxes.voc_file import Annotation, VocFiles, VocList


def voc_boxes(
    files: VocFiles,
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
        files: of the folder.
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
    folder, place = files.folder, files.image_folder
    faults = LeftOut(f"{folder.name} {listed.name}")
    labels = {name: label for label, name in enumerate(class_names, 1)}
    found, lost = [], []
    for own, (image, annotation) in enumerate(zip(listed.images, listed.annotations, strict=True), first):
        file = _file(image, annotation, files)
        if file is not None or not need_images:
            found.append((own, file or f"{place}/{image}.jpg".removeprefix("/"), annotation))
        else:
            lost.append(f"{image}.jpg (image {own})")
    if lost and not (skip_missing and found):
        raise missing_images(len(lost), len(listed.images), lost, folder / place)
    if lost:
        faults.add("without a file, left out", lost[0], count=len(lost), what="images")

    frames = [Frame(own, file, *_size(annotation, folder / file)) for own, file, annotation in found]
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
        root=folder if len(files.images) else None,
    )


def _file(image: str, annotation: Annotation, files: VocFiles) -> str | None:
    """VOC's own is the list's name with .jpg; others' may have another suffix, or the name that the xml tells."""
    told = annotation.get("filename")
    told = told.replace("\\", "/") if isinstance(told, str) else image
    names, images = (f"{image}.jpg", image, f"{image.rpartition('/')[0]}/{told}", told), files.images
    found = [file for name in names if (file := images.exact(name)) is not None]
    # In another folder a name is that of the image only where no other annotation has it.
    if not found and files.is_alone(image):
        found = [file for name in (image, told) if (file := images.file(name)) is not None]
    return found[0] if found else None


def _size(annotation: Annotation, image: Path) -> tuple[int, int]:
    size = annotation.get("size")
    sides = [number(size.get(side)) if isinstance(size, dict) else math.nan for side in ("width", "height")]
    if all(side >= 1 for side in sides):  # programs that do not know it write 0; NaN is not >= 1
        return int(sides[0]), int(sides[1])
    return stored_size(image)


def _row(own: int, thing: Annotation, labels: dict[str, int]) -> Row:
    box = thing.get("bndbox")
    sides = box if isinstance(box, dict) else {}
    x1, y1, x2, y2 = corners = (
        number(sides.get("xmin")),
        number(sides.get("ymin")),
        number(sides.get("xmax")),
        number(sides.get("ymax")),
    )
    return Row(
        id=own,
        label=labels[thing["name"]],
        corners=corners,
        crowd=bool(flag(thing.get("difficult"))),
        area=math.nan,
        written=(x1, y1, x2 - x1, y2 - y1),
    )
