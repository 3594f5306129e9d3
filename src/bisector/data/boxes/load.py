"""Loads a detection data set: finds its files, reads its parts, divides what nobody divided."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bisector.data.boxes.box_set import BoxSet, BoxSplits, frequency_groups
from bisector.data.boxes.coco import read_coco
from bisector.data.boxes.layout import find_json_parts, find_voc, image_folders, require_data
from bisector.data.boxes.sampling import long_tailed
from bisector.data.boxes.voc import read_voc
from bisector.data.image_examples import common_range
from bisector.data.images import PixelRange
from bisector.data.keyed import keyed_permutation
from bisector.data.plugins import plugin_of
from bisector.errors import ArgumentError, require, require_integer, require_number

VALIDATION_SHARE = 0.2

_EIGHT_BITS = (".jpg", ".jpeg", ".jpe", ".jfif")  # which need not be looked into


def load_boxes(
    data: str,
    *,
    images: str | None = None,
    validation: str | None = None,
    validation_images: str | None = None,
    seed: int = 0,
    imbalance: float = 1.0,
    skip_missing: bool = False,
    need_images: bool = True,
    pixel_range: PixelRange | None = None,
) -> BoxSplits:
    """Load a detection data set: a Pascal VOC folder, COCO or LVIS files, or what a Python file makes.

    A VOC folder is divided by its lists: train.txt and val.txt, else trainval.txt, and test.txt; without any, by
    the subfolders train, valid and test of its annotations. Two years of VOC are not read as one (VOC07+12). A
    folder of COCO or LVIS files has a training and a validation file; which files those are, and where images are
    looked for, says `bisector.data.boxes.layout.find_json_parts`. Where nothing is for validation, 20% of the
    training pictures are; those of one file stay together. Files that two parts have are a line in `left_out` of
    the later one. Pictures of more than 8 bits are brought to 8 by one scale for all parts, which is a line too.

    Args:
        data: a folder, a json file, or a Python file with options (`bisector.data.plugins`).
        images: the folder of the json file's images, where it is not in a usual place.
        validation: another json file, for validation.
        validation_images: the folder of its images; None: looked for as those of `data` are; where `images` is
            given, in the folder of the validation part (val2017) in it or beside it, then in `images` itself.
        seed: decides what is drawn: a validation part, the long tail, what a plugin draws.
        imbalance: boxes of the commonest class over those of the rarest in the training part, which is thinned to a
            long tail in the style of COCO-LT (see `long_tailed`); 1 leaves it as it is.
        skip_missing: leave out pictures whose image file is missing, and report them; otherwise that is an error.
        need_images: whether image files must be there; without, as for what is only scored against, every picture
            is kept whatever files there are.
        pixel_range: the values of pixels of more than 8 bits that become 0 and 255, as a model was trained with;
            those that the data need if None.

    Raises:
        ArgumentError: if there is no such data set, or a file of it is not what it should be.
        MissingExtraError: if faster-coco-eval (masks without a box) is not installed.
    """
    require_number("imbalance", imbalance, least=1)
    require_integer("seed", seed, least=0)
    plugin = plugin_of(data)
    path = require_data(data) if plugin is None else plugin.file
    folder = find_voc(path) if plugin is None and path.is_dir() else None
    if plugin is not None or folder is not None:
        what = "a VOC folder" if plugin is None else "a plugin"
        given = {"images": images, "validation": validation, "validation_images": validation_images}
        for name, value in given.items():
            require(value is None, name, repr(value), f"none: {what} has its own")
    how: dict[str, Any] = {"skip_missing": skip_missing, "need_images": need_images}
    if plugin is not None:
        splits = plugin.call("load_boxes", BoxSplits, seed)
    elif folder is not None:
        splits = _divided(read_voc(folder, **how), seed)
    else:
        read: dict[str, BoxSet] = {}
        for part, (file, folders) in _json_parts(path, images, validation, validation_images).items():
            read[part] = read_coco(file, folders, train=read.get("train"), **how)
        splits = _divided(read, seed)
    if need_images:
        _give_scale(splits, pixel_range)
    return splits if imbalance == 1 else _thinned(splits, imbalance, seed)


def _json_parts(
    path: Path, images: str | None, validation: str | None, validation_images: str | None
) -> dict[str, tuple[Path, list[Path]]]:
    """The json file of each part, and the folders in which its images may lie."""
    files = {"train": path} if path.is_file() else find_json_parts(path)
    folder = None if path.is_file() else path
    parts = {
        part: (file, image_folders(file, images, folder, inherited=part != "train"))
        for part, file in files.items()
    }
    if validation is not None:
        file, place = require_data(validation), validation_images or images
        parts["validation"] = (file, image_folders(file, place, inherited=validation_images is None))
    elif validation_images is not None:
        raise ArgumentError("validation_images: expected validation, the file of their boxes, beside it")
    return parts


def _give_scale(splits: BoxSplits, pixel_range: PixelRange | None) -> None:
    """Bring all pictures of more than 8 bits to 8 by one scale."""
    found = dict.fromkeys(
        str(Path(part.root) / picture.file)
        for part in splits.parts
        if part.root is not None
        for picture in part
        if not picture.file.lower().endswith(_EIGHT_BITS)
    )
    files = list(found)
    scale, note = common_range(files, files, pixel_range)
    for part in splits.parts:
        part.pixel_range = scale
    if note:
        splits.train.left_out += (f"{splits.train.name}: {note}",)


def _divided(parts: dict[str, BoxSet], seed: int) -> BoxSplits:
    """The parts with lines about files that they have in common, validation drawn where there is none."""
    for place, part in enumerate(parts.values()):
        part.left_out += _repeated_files(part)
        for other in list(parts.values())[:place]:
            part.left_out += _shared_files(other, part)
    train, validation = parts["train"], parts.get("validation")
    if validation is None:
        train, validation = _drawn_validation(train, seed)
    return BoxSplits(train, validation, parts.get("test"))


def _drawn_validation(boxes: BoxSet, seed: int) -> tuple[BoxSet, BoxSet]:
    """Draw 20% of the files for validation; pictures of one file stay together, in the order of the set."""
    numbers: dict[Hashable, int] = {}
    of_picture = torch.tensor([numbers.setdefault(file, len(numbers)) for file in boxes.files()])
    files = len(numbers)
    got = f"{files} {'file' if len(boxes) > files else 'pictures'} in {boxes.name}"
    require(files >= 2, "data", got, "at least 2, one for validation")
    count = max(1, round(VALIDATION_SHARE * files))
    held = torch.isin(of_picture, keyed_permutation(seed, 0, files)[:count])
    line = (
        f"{boxes.name}: no validation part: {int(held.sum()):,} of its {len(boxes):,} pictures were drawn "
        f"(seed {seed})"
    )
    validation = boxes.subset(held.nonzero()[:, 0], left_out=[line])
    validation.name = f"{boxes.name} validation"
    return boxes.subset((~held).nonzero()[:, 0], left_out=[*boxes.left_out, line]), validation


def _repeated_files(boxes: BoxSet) -> tuple[str, ...]:
    """A line where some pictures of a set are of the same file, under other ids; which."""
    names: dict[Hashable, list[str]] = {}
    for file, picture in zip(boxes.files(), boxes, strict=True):
        names.setdefault(file, []).append(f"{picture.file} (image {picture.id})")
    repeats = [" = ".join(some) for some in names.values() if len(some) > 1]
    line = f"files that several images have, which stay in one part where parts are drawn: {len(repeats):,}"
    return (f"{boxes.name}: {line}: {_first(repeats)}",) if repeats else ()


def _shared_files(train: BoxSet, other: BoxSet) -> tuple[str, ...]:
    """A line where pictures of another part are those of training, by a mistake of files or folder; which."""
    if train.root is None and train.style != "voc":
        return ()  # files of two lists without a folder are not known to be the same
    known = set(train.files())
    common = [picture.file for file, picture in zip(other.files(), other, strict=True) if file in known]
    where = f", in {train.root}" if train.root == other.root is not None else ""
    line = f"{len(common):,} of {len(other):,} images are those of {train.name}{where}: {_first(common)}"
    hint = "" if other.style == "voc" else "; if they are others, their folder is to be given"
    return (f"{other.name}: {line}{hint}",) if common else ()


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _thinned(splits: BoxSplits, imbalance: float, seed: int) -> BoxSplits:
    """The long tail of the training part; what the file calls rare no longer is what the rest calls so."""
    train = long_tailed(splits.train, imbalance, seed)
    if train.frequency is None:
        return replace(splits, train=train)
    groups = frequency_groups(train.image_counts)
    test = None if splits.test is None else splits.test.with_frequency(groups)
    return BoxSplits(train.with_frequency(groups), splits.validation.with_frequency(groups), test)
