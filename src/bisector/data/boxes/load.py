"""Loads a detection data set."""

from dataclasses import replace
from pathlib import Path

from bisector.data.boxes.box_set import BoxSet
from bisector.data.boxes.coco import read_coco
from bisector.data.boxes.coco_lt import long_tailed
from bisector.data.boxes.frequency import frequency_groups
from bisector.data.boxes.layout import JsonPart, find_json_parts, find_voc, json_part, require_data
from bisector.data.boxes.left_out import LeftOut
from bisector.data.boxes.splits import BoxSplits, drawn_validation, told_common, told_repeats
from bisector.data.boxes.voc import voc_boxes
from bisector.data.boxes.voc_file import VocFiles, parse_voc, voc_class_names
from bisector.data.image_examples import common_range
from bisector.data.images import PixelRange
from bisector.data.plugins import plugin_of
from bisector.errors import ArgumentError, require_integer, require_number

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
    looked for, is told by `bisector.data.boxes.layout.find_json_parts`. Where nothing is for validation, 20% of the
    training pictures are; those of one file stay together. Files that two parts have are told, in `left_out` of the
    later one. Pictures of more than 8 bits are brought to 8 by one scale for all parts, which is told too.

    Args:
        data: a folder, a json file, or a Python file with options (`bisector.data.plugins`).
        images: the folder of the json file's images, where it is not in a usual place.
        validation: another json file, for validation.
        validation_images: the folder of its images; None: looked for as those of `data` are; where `images` is
            given, in the folder of the validation part (val2017) in it or beside it, then in `images` itself.
        seed: decides what is drawn: a validation part, the long tail, what a plugin draws.
        imbalance: boxes of the commonest class over those of the rarest in the training part, which is thinned to a
            long tail in the style of COCO-LT (see `long_tailed`); 1 leaves it as it is.
        skip_missing: leave out pictures whose image file is missing, and tell; otherwise that is an error.
        need_images: whether image files must be there; without, as for what is only scored against, every picture
            is kept whatever files there are.
        pixel_range: the values of pixels of more than 8 bits that become 0 and 255, as a model was trained with;
            those that the data need if None.

    Raises:
        ArgumentError: if there is no such data set, or a file of it is not what it should be.
        MissingExtraError: if torchvision (VOC) or faster-coco-eval (masks without a box) is not installed.
    """
    require_number("imbalance", imbalance, least=1)
    require_integer("seed", seed, least=0)
    plugin = plugin_of(data)
    path = require_data(data) if plugin is None else plugin.file
    if plugin is not None:
        _require_none("a plugin", images=images, validation=validation, validation_images=validation_images)
        splits = plugin.call("load_boxes", BoxSplits, seed)
    elif path.is_dir() and (folder := find_voc(path)):
        _require_none(
            "a VOC folder", images=images, validation=validation, validation_images=validation_images
        )
        splits = _voc(folder, seed, skip_missing, need_images)
    else:
        parts = _json_parts(path, images)
        if validation is not None:
            place, inherited = validation_images or images, validation_images is None
            parts["validation"] = json_part(require_data(validation), place, inherited=inherited)
        elif validation_images is not None:
            raise ArgumentError("validation_images: expected validation, the file of their boxes, beside it")
        splits = _coco(parts, seed, skip_missing, need_images)
    if need_images:
        _give_scale(splits, pixel_range)
    return splits if imbalance == 1 else _thinned(splits, imbalance, seed)


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
    scale, told = common_range(files, files, pixel_range)
    for part in splits.parts:
        part.pixel_range = scale
    if told:
        splits.train.left_out += (f"{splits.train.name}: {told}",)


def _voc(folder: Path, seed: int, skip_missing: bool, need_images: bool) -> BoxSplits:
    faults = LeftOut(folder.name)
    files = VocFiles(folder, faults)
    lists = files.lists()
    pair = {"train", "val"} <= set(lists) or "trainval" not in lists
    names = {
        "train": "train" if pair else "trainval",
        "validation": "val" if pair else "",
        "test": "test",
    }
    told = list(faults.lines())
    if names["train"] not in lists:
        held = {image for images in lists.values() for image in images}
        lists["train"] = tuple(image for image in files.annotated() if image not in held)
        told.append(
            f"{folder.name}: no train.txt: {len(lists['train']):,} images that are in no list are for it"
        )
    # Of VOC 2012 the list of test images is public, their annotations are not.
    if "test" in lists and not any(files.annotation(image) for image in lists["test"]):
        told.append(f"{folder.name}: test.txt has no annotations: no test part")
        del lists["test"]
    parsed = {part: parse_voc(files, name, lists[name]) for part, name in names.items() if lists.get(name)}
    if "train" not in parsed:
        raise ArgumentError(f"data: no image in {names['train']}.txt of {folder}")
    classes = voc_class_names(parsed.values())
    parts: dict[str, BoxSet] = {}
    first = 1
    for part, some in parsed.items():  # in this order: an id says which part a picture is of
        parts[part] = voc_boxes(
            files,
            some,
            classes,
            name=f"{folder.name} {some.name}",
            first=first,
            skip_missing=skip_missing,
            need_images=need_images,
        )
        first += len(some.images)
    parts["train"].left_out += tuple(told)
    return _divided(parts, seed)


def _coco(parts: dict[str, JsonPart], seed: int, skip_missing: bool, need_images: bool) -> BoxSplits:
    read: dict[str, BoxSet] = {}
    for part, where in parts.items():
        read[part] = read_coco(
            where.file,
            where.images,
            train=read.get("train"),
            skip_missing=skip_missing,
            need_images=need_images,
        )
    return _divided(read, seed)


def _json_parts(path: Path, images: str | None) -> dict[str, JsonPart]:
    if path.is_file():
        return {"train": json_part(path, images)}
    parts = find_json_parts(path)
    if images is None:
        return parts
    return {part: json_part(where.file, images, inherited=part != "train") for part, where in parts.items()}


def _divided(parts: dict[str, BoxSet], seed: int) -> BoxSplits:
    for place, part in enumerate(parts.values()):
        part.left_out += told_repeats(part)
        for other in list(parts.values())[:place]:
            part.left_out += told_common(other, part)
    train, validation = parts["train"], parts.get("validation")
    if validation is None:
        train, validation = drawn_validation(train, seed)
    return BoxSplits(train, validation, parts.get("test"))


def _thinned(splits: BoxSplits, imbalance: float, seed: int) -> BoxSplits:
    """The long tail of the training part; what the file calls rare no longer is what the rest calls so."""
    train = long_tailed(splits.train, imbalance, seed)
    if train.frequency is None:
        return replace(splits, train=train)
    groups = frequency_groups(train.image_counts)
    test = None if splits.test is None else splits.test.with_frequency(groups)
    return BoxSplits(train.with_frequency(groups), splits.validation.with_frequency(groups), test)


def _require_none(what: str, **arguments: str | None) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ArgumentError(f"{name}: got {value!r}; expected none: {what} has its own")
