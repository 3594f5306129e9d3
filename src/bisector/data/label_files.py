"""Images whose labels a file beside them tells: Hugging Face's metadata.csv, labels.csv, FiftyOne's labels.json."""

import csv
import json
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bisector.data.image_examples import Reading
from bisector.data.image_folder import is_image, told
from bisector.data.image_source import LabelledImage, image_source
from bisector.data.places import files_below
from bisector.data.source import SPLIT_WORDS, Source, part_of
from bisector.data.tables.class_labels import named_labels
from bisector.errors import ArgumentError, reason_of, require
from bisector.files import read_rows

_TABLES = ("metadata.csv", "metadata.jsonl", "labels.csv", "labels.jsonl")
_FIFTYONE = "labels.json"
_FILE_COLUMNS = ("file_name", "filename", "file", "image", "path", "filepath", "image_path", "image_name")
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category", "y")
_SPLIT_COLUMNS = ("split", "part", "set")


class _Listed(NamedTuple):
    """An image that a file of labels names."""

    file: str
    label: Any  # None where it has none
    part: str | None


class _LabelFile(NamedTuple):
    """What a file of labels says."""

    path: Path
    listed: list[_Listed]
    label: str  # the column of labels
    classes: list[str] | None  # the names of numbers, where it says them
    left_out: list[str]


def label_file_source(folder: Path, reading: Reading) -> Source | None:
    """Read the images of a folder whose labels a file in it tells; None where there is no such file.

    - **metadata.csv** or **metadata.jsonl**, as `imagefolder` of Hugging Face has it: `file_name` and `label`, in
      the folder or in each of its folders for training, validation and test.
    - **labels.csv** or **labels.jsonl**: a column called `filename`, `file`, `image` or `path`, and one called
      `label` or `class`.
    - **labels.json** beside `data/`, as FiftyOne exports it (`FiftyOneImageClassificationDataset`): `classes`, and
      `labels` by name, with their suffix or without, that are numbers or words.

    Paths are meant from the folder of the file. Parts are told by a column `split`, or by the first folder of
    a path. Images that are not listed, rows without a label or an image, and images listed twice are left out
    and named.

    Args:
        folder: that is looked into.
        reading: how images are read; `label` names the column of labels.

    Raises:
        ArgumentError: if a file of labels cannot be read, or no image of it.
    """
    read = (_read(path, part, reading.label) for path, part in _places(folder))
    found = [one for one in read if one is not None]
    if not found:
        return None
    images: list[LabelledImage] = []
    left_out: list[str] = []
    order: dict[str, int] = {}
    notes = []
    for one in found:
        shown = told(os.path.relpath(one.path, folder.parent))
        left_out += one.left_out
        values = [listed.label for listed in one.listed]
        classes, labels = named_labels(values, one.classes, shown, one.label)
        order |= classes
        notes.append(f"labels: those of {shown}, column {one.label!r}")
        kept, lines = _matched(one, labels, folder)
        images += kept
        left_out += lines
    require(
        bool(images), "data", f"{folder} without an image that {told(found[0].path.name)} lists", "images"
    )
    ranked = sorted(order, key=lambda name: (order[name], name))
    return image_source(images, ranked, reading, left_out=left_out, notes=notes)


def _places(folder: Path) -> list[tuple[Path, str | None]]:
    """The files of labels in a folder, or in its folders of parts, each with the part that it is of."""
    own = [(folder / name, None) for name in (*_TABLES, _FIFTYONE) if (folder / name).is_file()]
    if own:
        return [*own[:1]]
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower() in SPLIT_WORDS)
    return [
        (path / name, SPLIT_WORDS[path.name.lower()])
        for path in inner
        for name in [next((name for name in (*_TABLES, _FIFTYONE) if (path / name).is_file()), "")]
        if name
    ]


def _read(path: Path, part: str | None, wanted: str | None) -> _LabelFile | None:
    """What a file says; None where it is a table of something else."""
    try:
        if path.name == _FIFTYONE:
            return _fiftyone(path, part)
        if path.suffix == ".csv":
            columns, rows = read_rows(path)
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines if line.strip()]
            require(all(isinstance(row, dict) for row in rows), "data", f"{path} with other lines", "objects")
            columns = list(dict.fromkeys(name for row in rows for name in row))
    except ArgumentError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise ArgumentError(f"data: {path} cannot be read: {reason_of(error)}") from None
    file = _column(columns, _FILE_COLUMNS)
    label = _column(columns, _LABEL_COLUMNS) if wanted is None else wanted
    told_columns = f"{path} with columns {', '.join(map(str, columns))}"
    require(
        wanted is None or wanted in columns,
        "label",
        f"{wanted!r} in {told_columns}",
        "the name of one of them",
    )
    if file is None or label is None:
        return None
    split = _column(columns, _SPLIT_COLUMNS)
    listed, left_out = [], []
    typed = _numbers([row.get(label) for row in rows])
    for number, (row, value) in enumerate(zip(rows, typed, strict=True), start=1):
        name = row.get(file)
        if not isinstance(name, str) or not name:
            left_out.append(f"{path.name}, row {number}: no file name")
            continue
        said = part if split is None else part_of(str(row.get(split) or ""))
        listed.append(_Listed(name, value, said))
    return _LabelFile(path, listed, label, None, left_out)


def _fiftyone(path: Path, part: str | None) -> _LabelFile | None:
    found = json.loads(path.read_bytes())
    labels = found.get("labels") if isinstance(found, dict) else None
    if not isinstance(labels, dict):
        return None
    classes = found.get("classes")
    legal = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    require(classes is None or legal, "data", f"{path} with classes {str(classes)[:40]}", "a list of names")
    values = [value.get("label") if isinstance(value, dict) else value for value in labels.values()]
    strange = [value for value in values if isinstance(value, list | float | bool)]
    require(
        not strange, "data", f"{path} with the label {str(strange[:1])[:40]}", "one number or name an image"
    )
    beyond = [v for v in values if isinstance(v, int) and classes is not None and not -1 <= v < len(classes)]
    require(not beyond, "data", f"{path} with the label {beyond[:1]}", f"one of {len(classes or ())} classes")
    listed = [_Listed(name, value, part) for name, value in zip(labels, values, strict=True)]
    return _LabelFile(path, listed, "labels", classes, [])


def _matched(
    of: _LabelFile, labels: Sequence[str | None], folder: Path
) -> tuple[list[LabelledImage], list[str]]:
    """The images that a file lists and that are there, and lines for all else."""
    root = of.path.parent
    there = {_key(path.relative_to(root).as_posix()): path for path in files_below(root) if is_image(path)}
    by_name = _once((Path(key).name, path) for key, path in there.items())
    by_stem = _once((Path(key).stem, path) for key, path in there.items())
    images: list[LabelledImage | None] = []
    left_out: list[str] = []
    unlabelled = 0
    seen: dict[Path, int] = {}
    used: set[Path] = set()
    said: dict[Path, str | None] = {}
    twice: list[Path] = []
    for listed, label in zip(of.listed, labels, strict=True):
        key = _key(Path(os.path.normpath(listed.file.replace("\\", "/"))).as_posix())
        path = there.get(key) or by_name.get(key) or by_stem.get(key) or root / listed.file
        used.add(path)
        if path in said:
            twice.append(path)
            if said[path] != label and path in seen:
                left_out.append(
                    f"{_shown(path, folder)}: listed with the labels {said[path]!r} and {label!r}"
                )
                images[seen.pop(path)] = None
            continue
        said[path] = label
        if label is None:
            unlabelled += 1
            continue
        first = Path(key).parts[0].lower() if len(Path(key).parts) > 1 else ""
        part = listed.part or SPLIT_WORDS.get(first) or "train"
        seen[path] = len(images)
        images.append(LabelledImage(str(path), _shown(path, folder), label, part))
    left_out += [f"{of.path.name}: {unlabelled} rows without a label"] if unlabelled else []
    left_out += [_some(twice, folder, f"listed twice in {of.path.name}")] if twice else []
    others = [path for path in there.values() if path not in used]
    left_out += [_some(others, folder, f"not listed in {of.path.name}")] if others else []
    return [image for image in images if image is not None], left_out


def _once(pairs: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Those paths that alone have their name."""
    found: dict[str, Path | None] = {}
    for name, path in pairs:
        found[name] = None if name in found else path
    return {name: path for name, path in found.items() if path is not None}


def _some(paths: Sequence[Path], folder: Path, why: str) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{_shown(paths[0], folder)}{more}: {why}"


def _shown(path: Path, folder: Path) -> str:
    return told(os.path.relpath(path, folder.parent))


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", told(name))


def _column(columns: Sequence[Any], names: Sequence[str]) -> str | None:
    lower: Mapping[str, str] = {str(name).strip().lower(): name for name in columns if name is not None}
    return next((lower[name] for name in names if name in lower), None)


def _numbers(values: Sequence[Any]) -> list[Any]:
    """Text as numbers where all of it are whole numbers as one writes them; what is empty as None."""
    given = [None if value is None or value == "" else value for value in values]
    texts = [value for value in given if isinstance(value, str)]
    whole = all(text.lstrip("-").isdecimal() and str(int(text)) == text for text in texts)
    return [int(value) if isinstance(value, str) and whole else value for value in given]
