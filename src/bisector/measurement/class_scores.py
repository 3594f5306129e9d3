"""Scores of the classes that the user brings: AP, recall or whatever was measured elsewhere."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bisector.errors import ArgumentError, missing_extra, require
from bisector.files import read_rows
from bisector.measurement.score_scales import Scale, counts_something, scale_note, scales_of

_NAMES = ("class", "class_name", "category", "name", "label")
_LEGAL = "a table (.csv, .tsv, .json, .parquet) with a column class and one for each score"
_NONE = {"", "nan", "na", "n/a", "null", "none", "-"}

_Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class ClassScores:
    """One score of every class.

    Args:
        name: of the score, as "AP".
        source: the file.
        values: in the order of the classes; fractions where `percent`; NaN of a class that has none.
        percent: whether the score is a share, of 1 or of 100 in the file.
        notes: what the reader should know.
    """

    name: str
    source: str
    values: list[float]
    percent: bool
    notes: tuple[str, ...] = ()


def read_class_scores(path: str | Path, class_names: Sequence[str]) -> list[ClassScores]:
    r"""Read one or more scores of the classes from a table.

    - **CSV** with a heading, or **Parquet**: a column `class` (or `class_name`, `category`, `name`, `label`), and a
      column for each score.
    - **JSON**: a list of such rows; an object of class to number, which is one score with the name of the file; or
      an object of class to an object of score to number.

    A class is given by its name, or by its number where the names are numbers. Cells that are empty or NaN are no
    score. A column without any number is no score, nor is one whose name says that it is a count or a number of the
    class (`bisector.measurement.score_scales.counts_something`); both are noted. Scores between 0 and 1 are taken
    for fractions, those between 0 and 100 for percentages, losses and all else for what they are
    (`bisector.measurement.score_scales.scales_of`); where nothing else is negative, -1 is no score, as COCO's
    evaluation writes it for a class without an instance. That is noted, and so are classes that are missing.

    Args:
        path: of the file.
        class_names: C, in the order of the labels.

    Raises:
        ArgumentError: the file is no such table, names a class that is unknown or twice, or has a cell that is no
            number among numbers.
        MissingExtraError: for Parquet without pyarrow.
        OSError: it cannot be read.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "ap.csv"
    >>> _ = file.write_text("class,AP\nowl,41.5\n")
    >>> score, = read_class_scores(file, ["owl", "wren"])
    >>> score.name, score.values, score.notes[0]
    ('AP', [0.415, nan], 'AP in ap.csv: no score of 1 class of 2 (wren).')
    >>> score.notes[1]
    'ap.csv: read AP as percentages. That is a guess from names and values.'
    """
    path = Path(path)
    require(path.is_file(), "scores", f"{path}, which is not there", _LEGAL)
    try:
        rows, classes = _read(path)
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"scores: got {path}, which cannot be read ({error}); expected {_LEGAL}"
        ) from None
    require(bool(rows), "scores", f"{path} without a row", _LEGAL)
    headings = list(dict.fromkeys(key for row in rows for key in row))
    if classes is None:
        key = next((name for wanted in _NAMES for name in headings if name.strip().lower() == wanted), None)
        if key is None:
            raise ArgumentError(
                f"scores: got {path} with the columns {', '.join(headings)}; expected {_LEGAL}"
            )
        classes = [row.get(key) for row in rows]
        headings.remove(key)
    positions = _positions(path, classes, class_names)
    counting = [name for name in headings if counts_something(name)]
    columns: dict[str, list[float]] = {}
    notes: dict[str, list[str]] = {}
    dropped = []
    for name in headings:
        if name in counting:
            continue
        values = _column(path, name, [row.get(name) for row in rows], classes)
        if values is None:
            dropped.append(name)
        else:
            columns[name], notes[name] = _without_minus_one(path, name, values)
    require(bool(columns), "scores", f"{path} without a column of numbers that are scores", _LEGAL)
    scales = scales_of(columns)
    found = [
        _score(path, name, values, scales[name], notes[name], positions, class_names)
        for name, values in columns.items()
    ]
    told = [scale_note(path.name, scales)]
    if dropped:
        told.append(f"{path.name}: no number in {', '.join(dropped)}, which {_is(len(dropped))} left out.")
    if counting:
        told.append(
            f"{path.name}: {', '.join(counting)} {_is(len(counting))} left out: by the name a count or a number of "
            "the class, no score."
        )
    return [replace(found[0], notes=(*found[0].notes, *told)), *found[1:]]


def _read(path: Path) -> tuple[_Rows, list[object] | None]:
    """The rows, and their classes where these are not in a column."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _of_json(json.loads(path.read_text(encoding="utf-8-sig")), path)
    if suffix in {".parquet", ".pq"}:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import read_table
        except ImportError:
            raise missing_extra("pyarrow", "measure") from None
        try:
            rows: _Rows = read_table(path).to_pylist()
        except ArrowException as error:  # most of them are ValueErrors, not all
            raise ValueError(error) from None
        return rows, None
    require(suffix in {".csv", ".tsv"}, "scores", f"{path}", _LEGAL)
    lines = read_rows(path, delimiter="\t" if suffix == ".tsv" else ",")[1]
    if any(None in line for line in lines):
        raise ValueError("a row has more cells than the heading")
    return lines, None


def _of_json(content: Any, path: Path) -> tuple[_Rows, list[object] | None]:
    if isinstance(content, list) and all(isinstance(row, Mapping) for row in content):
        return [dict(row) for row in content], None
    require(isinstance(content, Mapping), "scores", f"{path}, which holds {type(content).__name__}", _LEGAL)
    rows = [dict(value) if isinstance(value, Mapping) else {path.stem: value} for value in content.values()]
    return rows, list(content)


def _positions(path: Path, given: Sequence[object], class_names: Sequence[str]) -> list[int]:
    """The class of each row."""
    of_name = {name: position for position, name in enumerate(class_names)}
    numbers = {int(name): position for name, position in of_name.items() if re.fullmatch(r"-?\d{1,18}", name)}
    by_number = len(numbers) == len(class_names)
    positions: list[int] = []
    for value in given:
        text = "" if value is None else str(value)
        position = of_name.get(text, of_name.get(text.strip()))
        if position is None and by_number and re.fullmatch(r"-?\d{1,18}(\.0*)?", text.strip()):
            position = numbers.get(int(text.strip().partition(".")[0]))
        if position is None:
            shown = ", ".join(class_names[:3]) + (", ..." if len(class_names) > 3 else "")
            raise ArgumentError(
                f"scores: got class {text!r} in {path}; expected a class of the table: {shown}"
            )
        positions.append(position)
    if len(set(positions)) < len(positions):
        twice = next(p for k, p in enumerate(positions) if p in positions[:k])
        raise ArgumentError(f"scores: got class {class_names[twice]!r} twice in {path}; expected each once")
    return positions


def _column(path: Path, name: str, cells: Sequence[object], classes: Sequence[object]) -> list[float] | None:
    """The numbers of a column, NaN where a cell is empty; None where no cell is a number."""
    values = [_number(cell) for cell in cells]
    if all(value is None or math.isnan(value) for value in values):
        return None
    for value, cell, of in zip(values, cells, classes, strict=True):
        if value is None or math.isinf(value):
            raise ArgumentError(
                f"scores: got {name} {cell!r} of class {of!r} in {path}; expected a finite number, or nothing"
            )
    return [math.nan if value is None else value for value in values]


def _number(cell: object) -> float | None:
    """A number, NaN for an empty cell, None for what is neither."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in _NONE):
        return math.nan
    if isinstance(cell, bool) or not isinstance(cell, (int, float, str)):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _without_minus_one(path: Path, name: str, values: list[float]) -> tuple[list[float], list[str]]:
    """The values, -1 as NaN where it says that there is none; and what was done."""
    negative = [value for value in values if value < 0]
    known = [value for value in values if value >= 0]
    if not (negative and known and set(negative) == {-1.0} and max(known) <= 100):
        return values, []
    told = f"{name} in {path.name}: -1 is taken for no score ({_classes(len(negative))})."
    return [math.nan if value == -1 else value for value in values], [told]


def _score(
    path: Path,
    name: str,
    cells: Sequence[float],
    scale: Scale,
    notes: Sequence[str],
    positions: Sequence[int],
    class_names: Sequence[str],
) -> ClassScores:
    values, told = [math.nan] * len(class_names), list(notes)
    for position, value in zip(positions, cells, strict=True):
        values[position] = value / 100 if scale == "percent" else value
    missing = [one for one, value in zip(class_names, values, strict=True) if math.isnan(value)]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        told.append(
            f"{name} in {path.name}: no score of {_classes(len(missing))} of {len(class_names)} ({some})."
        )
    return ClassScores(name, path.name, values, scale != "own", tuple(told))


def _classes(count: int) -> str:
    return f"{count} class{'es' * (count != 1)}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
