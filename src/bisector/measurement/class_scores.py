"""Scores of the classes that the user brings: AP, recall or whatever was measured elsewhere."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisector.errors import ArgumentError, missing_extra, require

_NAMES = ("class", "class_name", "category", "name", "label")
_LEGAL = "a table (.csv, .json, .parquet) with a column class and one for each score"
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
    score. A column without any number is no score, and noted. Scores that lie between 0 and 1 are taken for
    fractions, those between 0 and 100 for percentages; where nothing else is negative, -1 is no score, as COCO's
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
    >>> score.name, score.values, score.notes
    ('AP', [0.415, nan], ('AP in ap.csv: no score of 1 class of 2 (wren).',))
    """
    path = Path(path)
    require(path.is_file(), "scores", f"{path}, which is not there", _LEGAL)
    try:
        rows = _read(path)
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"scores: got {path}, which cannot be read ({error}); expected {_LEGAL}"
        ) from None
    require(bool(rows), "scores", f"{path} without a row", _LEGAL)
    headings = list(dict.fromkeys(key for row in rows for key in row))
    key = next((name for wanted in _NAMES for name in headings if name.strip().lower() == wanted), None)
    if key is None:
        raise ArgumentError(f"scores: got {path} with the columns {', '.join(headings)}; expected {_LEGAL}")
    positions = _positions(path, [row.get(key) for row in rows], class_names)
    found, dropped = [], []
    for name in headings:
        if name == key:
            continue
        values = _column(path, name, [row.get(name) for row in rows], [row.get(key) for row in rows])
        if values is None:
            dropped.append(name)
        else:
            found.append(_score(path, name, values, positions, class_names))
    require(bool(found), "scores", f"{path} without a column of numbers", _LEGAL)
    if dropped:
        note = f"{path.name}: no number in {', '.join(dropped)}, which {_is(len(dropped))} left out."
        first = found[0]
        found[0] = ClassScores(first.name, first.source, first.values, first.percent, (*first.notes, note))
    return found


def _read(path: Path) -> _Rows:
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
        return rows
    require(suffix in {".csv", ".tsv"}, "scores", f"{path}", _LEGAL)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
        lines = list(reader)
    if any(None in line for line in lines):
        raise ValueError("a row has more cells than the heading")
    return lines


def _of_json(content: Any, path: Path) -> _Rows:
    if isinstance(content, list) and all(isinstance(row, Mapping) for row in content):
        return [dict(row) for row in content]
    require(isinstance(content, Mapping), "scores", f"{path}, which holds {type(content).__name__}", _LEGAL)
    return [
        {"class": name, **(value if isinstance(value, Mapping) else {path.stem: value})}
        for name, value in content.items()
    ]


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


def _score(
    path: Path, name: str, cells: Sequence[float], positions: Sequence[int], class_names: Sequence[str]
) -> ClassScores:
    values = [math.nan] * len(class_names)
    for position, value in zip(positions, cells, strict=True):
        values[position] = value
    what, notes = f"{name} in {path.name}", []
    negative = [value for value in values if value < 0]
    known = [value for value in values if value >= 0]
    if negative and known and set(negative) == {-1.0} and max(known) <= 100:
        notes.append(f"{what}: -1 is taken for no score ({_classes(len(negative))}).")
        values = [math.nan if value == -1 else value for value in values]
        negative = []
    percent = bool(known) and not negative and max(known) <= 100
    if percent and max(known) > 1:
        values = [value / 100 for value in values]
    missing = [one for one, value in zip(class_names, values, strict=True) if math.isnan(value)]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        notes.append(f"{what}: no score of {_classes(len(missing))} of {len(class_names)} ({some}).")
    return ClassScores(name, path.name, values, percent, tuple(notes))


def _classes(count: int) -> str:
    return f"{count} class{'es' * (count != 1)}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
