"""Images whose labels a file beside them tells: Hugging Face's metadata.csv, labels.csv, FiftyOne's labels.json."""

import csv
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bisector.data.image_examples import Reading
from bisector.data.image_folder import is_image, told
from bisector.data.image_source import LabelledImage, image_source
from bisector.data.places import files_below
from bisector.data.source import SPLIT_WORDS, Source, part_of
from bisector.data.tables.class_labels import named_labels
from bisector.data.tables.classes import typed_texts
from bisector.data.tables.columns import ALIASES, SPLITS, lines_of, split_codes
from bisector.errors import ArgumentError, reason_of, require
from bisector.files import read_rows

_FIFTYONE = "labels.json"
_FILES = ("metadata.csv", "metadata.jsonl", "labels.csv", "labels.jsonl", _FIFTYONE)
_FILE_COLUMNS = ("file_name", "filename", "file", "image", "path", "filepath", "image_path", "image_name")
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category", "y")
_PERHAPS_SPLITS = ("part", "set")  # which may be of other things

_Row = Mapping[Any, Any]


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


def label_file_source(folder: Path, reading: Reading) -> tuple[Source | None, list[str]]:
    """Read the images of a folder whose labels a file in it tells.

    - **metadata.csv** or **metadata.jsonl**, as `imagefolder` of Hugging Face has it: `file_name` and `label`, in
      the folder or in each of its folders for training, validation and test.
    - **labels.csv** or **labels.jsonl**: a column called `filename`, `file`, `image` or `path`, and one called
      `label` or `class`.
    - **labels.json** beside `data/`, as FiftyOne exports it (`FiftyOneImageClassificationDataset`): `classes`, and
      `labels` by name, with their suffix or without, that are numbers or words.

    The first of these that has both columns is read. Paths are meant from the folder of the file. Parts are told by
    a column `split`, or by a folder of the path. Labels that are text are typed once for all files, as those of
    tables. Images that are not listed, rows without a label or an image, images listed twice and files of labels
    that are not read are left out and named.

    Args:
        folder: that is looked into.
        reading: how images are read; `label` names the column of labels.

    Returns:
        What was read, or None and a line for each file of labels that tells none.

    Raises:
        ArgumentError: if a file of labels cannot be read, or no image of it, or a word in the column `split` is
            none of training, validation and test.
    """
    found, left_out = _found(folder, reading.label)
    if not found:
        return None, left_out
    images: list[LabelledImage] = []
    order, named = _named(found, folder)
    for one, labels in zip(found, named, strict=True):
        left_out += one.left_out
        kept, lines = _matched(one, labels, folder)
        images += kept
        left_out += lines
    left_out += _elsewhere(found, {str(image.image) for image in images}, folder)
    require(
        bool(images), "data", f"{folder} without an image that {told(found[0].path.name)} lists", "images"
    )
    ranked = sorted(order, key=lambda name: (order[name], name))
    notes = [f"labels: those of {_shown(one.path, folder)}, column {one.label!r}" for one in found]
    return image_source(images, ranked, reading, left_out=left_out, notes=notes), []


def _found(folder: Path, wanted: str | None) -> tuple[list[_LabelFile], list[str]]:
    """The file of labels in a folder, or those in its folders of parts, and a line for each that is not read."""
    own, lines = _first(folder, None, wanted, folder.parent)
    if own is not None:
        return [own], lines
    found = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        if part := SPLIT_WORDS.get(path.name.lower()):
            inner, more = _first(path, part, wanted, folder.parent)
            found += [] if inner is None else [inner]
            lines += more
    return found, lines


def _first(
    folder: Path, part: str | None, wanted: str | None, top: Path
) -> tuple[_LabelFile | None, list[str]]:
    """The first file in a folder that tells labels, and a line for each other one."""
    paths = [folder / name for name in _FILES if (folder / name).is_file()]
    lines: list[str] = []
    others: list[tuple[Path, list[str]]] = []
    for place, path in enumerate(paths):
        read = _read(path, part, wanted)
        shown = told(os.path.relpath(path, top))
        if isinstance(read, _LabelFile):
            after = [told(os.path.relpath(other, top)) for other in paths[place + 1 :]]
            return read, [*lines, *(f"{other}: not read beside {path.name}" for other in after)]
        got = _printable(", ".join(read))
        lines.append(
            f"{shown}: not read: expected a column of files ({_FILE_COLUMNS[0]}, ...) and one of labels "
            f"({_LABEL_COLUMNS[0]}, ...), got {got[:60]!r}{'...' * (len(got) > 60)}"
        )
        others.append((path, read))
    if others and wanted is not None and not any(wanted in columns for _, columns in others):
        path, columns = others[0]
        raise ArgumentError(
            f"label: got {wanted!r} in {path} with columns {_printable(', '.join(columns))}; expected the name of "
            "one of them"
        )
    return None, lines


def _read(path: Path, part: str | None, wanted: str | None) -> _LabelFile | list[str]:
    """What a file says, or the columns of a table of something else."""
    rows: list[dict[Any, Any]] | None
    classes: list[str] | None = None
    if path.name == _FIFTYONE:
        columns, rows, classes = _fiftyone(path)
        wanted = None if wanted == "label" else wanted
    else:
        columns, rows = _cells(path) if path.suffix == ".csv" else _objects(path)
    file = _column(columns, _FILE_COLUMNS)
    label = _column(columns, _LABEL_COLUMNS) if wanted is None else wanted
    if rows is None or file is None or label not in columns:
        return [str(name) for name in columns]
    said, left_out = _splits(path, columns, rows)
    listed = []
    for number, row in enumerate(rows, start=1):
        name, value = row.get(file), row.get(label)
        if not isinstance(name, str) or not _is_path(name):
            left_out.append(f"{path.name}, row {number}: no file name")
            continue
        _require_text(value, f"{path}, row {number}")
        listed.append(_Listed(name, value, said[number - 1] if said else part))
    return _LabelFile(path, listed, label, classes, left_out)


def _cells(path: Path) -> tuple[list[str], list[dict[Any, Any]]]:
    """The columns and the rows of CSV."""
    try:
        return read_rows(path)
    except UnicodeDecodeError as error:
        lines = enumerate(path.read_bytes().split(b"\n"), start=1)
        wrong = next(number for number, line in lines if line.decode(errors="ignore").encode() != line)
        raise ArgumentError(f"data: {path}, line {wrong}, cannot be read: {reason_of(error)}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise ArgumentError(f"data: {path} cannot be read: {reason_of(error)}") from None


def _objects(path: Path) -> tuple[list[str], list[dict[Any, Any]]]:
    """The keys and the rows of JSON Lines."""
    rows = []
    for number, line in lines_of(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), blank=None):
        where, shown = f"{path}, line {number + 1},", line[:40].decode(errors="replace").strip()
        rows.append(_json(line, where))
        require(isinstance(rows[-1], dict), "data", f"{where} with {shown!r}", "a JSON object a line")
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _json(text: bytes, where: str) -> Any:
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"data: {where} cannot be read: {reason_of(error)}") from None


def _splits(path: Path, columns: Sequence[Any], rows: Sequence[_Row]) -> tuple[list[str], list[str]]:
    """The part of each row where a column tells it, and a line for a column that perhaps should have."""
    split = _column(columns, ALIASES["splits"]) or _column(columns, _PERHAPS_SPLITS)
    if split is None or not rows:
        return [], []
    words = ["" if row.get(split) is None else str(row[split]) for row in rows]
    if str(split).strip().lower() in _PERHAPS_SPLITS and not any(w.lower() in SPLIT_WORDS for w in words):
        return [], [f"{path.name}: the column {split!r} tells no split: {_printable(words[0])[:40]!r}"]
    try:
        return [SPLITS[code] for code in split_codes(np.array(words)).tolist()], []
    except ArgumentError as error:
        raise ArgumentError(f"data: {path}, column {split!r}, {_printable(str(error))}") from None


def _fiftyone(path: Path) -> tuple[list[str], list[dict[Any, Any]] | None, list[str] | None]:
    """The columns, the rows and the names of the classes of FiftyOne's JSON; other JSON has keys and no rows."""
    found = _json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), str(path))
    labels = found.get("labels") if isinstance(found, dict) else None
    if not isinstance(labels, dict):
        return list(found) if isinstance(found, dict) else [], None, None
    classes = found.get("classes")
    legal = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    require(classes is None or legal, "data", f"{path} with classes {str(classes)[:40]}", "a list of names")
    values = [value.get("label") if isinstance(value, dict) else value for value in labels.values()]
    strange = [value for value in values if isinstance(value, list | float | bool)]
    told = f"{path} with the label {str(strange[:1])[:40]}"
    require(not strange, "data", told, "one number or name an image")
    for name in classes or ():
        _require_text(name, str(path))
    beyond = [v for v in values if isinstance(v, int) and classes is not None and not -1 <= v < len(classes)]
    require(not beyond, "data", f"{path} with the label {beyond[:1]}", f"one of {len(classes or ())} classes")
    rows = [{"file": name, "labels": value} for name, value in zip(labels, values, strict=True)]
    return ["file", "labels"], rows, classes


def _named(found: Sequence[_LabelFile], folder: Path) -> tuple[dict[str, int], list[list[str | None]]]:
    """All classes with their numbers, and the names of those of each file's rows.

    Labels are typed over all files that do not say themselves what their numbers mean: where one label is missing
    pandas writes 1.0 for 1.
    """
    texts = [listed.label for one in found if one.path.suffix == ".csv" for listed in one.listed]
    typed = iter(typed_texts(texts))
    values = [
        [next(typed) if one.path.suffix == ".csv" else listed.label for listed in one.listed] for one in found
    ]
    order: dict[str, int] = {}
    named: list[list[str | None]] = [[] for _ in found]
    together = [place for place, one in enumerate(found) if one.classes is None]
    alone = [[place] for place, one in enumerate(found) if one.classes is not None]
    for places in [together, *alone] if together else alone:
        files = [found[place] for place in places]
        shown = " and ".join(_shown(one.path, folder) for one in files)
        columns = " and ".join(dict.fromkeys(one.label for one in files))
        column = [value for place in places for value in values[place]]
        classes, names = named_labels(column, files[0].classes, shown, columns)
        order |= classes
        rest = iter(names)
        for place in places:
            named[place] = [next(rest) for _ in values[place]]
    return order, named


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
        part = listed.part or _part(path, root, label) or "train"
        seen[path] = len(images)
        images.append(LabelledImage(str(path), _shown(path, folder), label, part))
    left_out += [f"{of.path.name}: {unlabelled} rows without a label"] if unlabelled else []
    left_out += [_some(twice, folder, f"listed twice in {of.path.name}")] if twice else []
    others = [path for path in there.values() if path not in used]
    left_out += [_some(others, folder, f"not listed in {of.path.name}")] if others else []
    return [image for image in images if image is not None], left_out


def _part(path: Path, root: Path, label: str) -> str | None:
    """The part that a folder on the way to an image tells; one that is called like its class is that class."""
    folders = Path(os.path.relpath(path, root)).parent.parts
    return next((part for name in folders if name != label and (part := part_of(name))), None)


def _elsewhere(found: Sequence[_LabelFile], read: Collection[str], folder: Path) -> list[str]:
    """A line for each place with images that lie in none of the folders whose files of labels are read."""
    roots = {one.path.parent for one in found}
    if folder in roots:
        return []
    used = set(map(os.path.normpath, read))
    others = (path for path in files_below(folder) if roots.isdisjoint(path.parents) and is_image(path))
    places = Counter(
        path.relative_to(folder).parts[0] if path.parent != folder else ""
        for path in others
        if os.path.normpath(path) not in used
    )
    name = _shown(found[0].path, folder)
    return [
        f"{_shown(folder / place, folder)}: {count} image{'s' * (count != 1)} not read: no file of labels there, "
        f"as {name}"
        for place, count in places.items()
    ]


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


def _is_path(name: str) -> bool:
    """Whether a file may be called so; half of a surrogate pair, as JSON can write it, is no character."""
    try:
        return bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _require_text(label: Any, where: str) -> None:
    """Raise `ArgumentError` for a label that cannot be written down."""
    legal = not isinstance(label, str) or _printable(label) == label
    require(legal, "data", f"{where}, with the label {ascii(label)[:40]}", "text in Unicode")


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()
