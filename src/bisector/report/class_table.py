"""The table of classes: a row for every class, as CSV, Parquet or JSON, with the same columns in each."""

import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeAlias

from bisector.errors import missing_extra, require_choice
from bisector.files import write_rows, write_whole
from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measurement import Measurement

FORMATS = ("csv", "parquet", "json")

Table: TypeAlias = tuple[Sequence[str], Iterable[Sequence[object]]]
"""The headings, and the cells of every row."""


def class_rows(measurement: Measurement) -> tuple[list[str], list[list[object]]]:
    """The headings and a row for each class: what `ClassMeasure` says of it, in its units, under its names.

    But for the name of the class, whose column is `class`. Scores that the user brought have a column each.
    """
    held = [field.name for field in fields(ClassMeasure)]
    own = ["class" if name == "name" else name for name in held]
    brought = [score for score in measurement.scores if score.brought]
    rows = [
        [*(getattr(one, name) for name in held), *(score.values[c] for score in brought)]
        for c, one in enumerate(measurement.classes)
    ]
    return [*own, *_distinct(own, [score.name for score in brought])], rows


def write_class_table(measurement: Measurement, path: Path) -> None:
    """Write the table; what is not known is an empty cell, or null.

    Args:
        measurement: of the classes, in the order of their numbers.
        path: ends with .csv, .parquet or .json.

    Raises:
        ArgumentError: if it does not.
        MissingExtraError: for Parquet without pyarrow.
        OSError: if the file cannot be written.
    """
    kind = require_choice("format", path.suffix[1:], FORMATS)
    headings, rows = class_rows(measurement)
    if kind == "csv":
        write_csv(path, (headings, rows))
        return
    known = [[_known(value) for value in row] for row in rows]
    if kind == "json":
        listed = [dict(zip(headings, row, strict=True)) for row in known]
        write_whole(path, json.dumps(listed, ensure_ascii=False, indent=1, allow_nan=False))
        return
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", "measure") from None
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    types = [kinds[held] for field in fields(ClassMeasure) if isinstance(held := field.type, type)]
    types += [pa.float64()] * (len(headings) - len(types))
    columns = [pa.array([row[k] for row in known], type=held) for k, held in enumerate(types)]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, names=headings), buffer)
    write_whole(path, buffer.getvalue())


def write_csv(path: Path, table: Table) -> None:
    """Write a table as CSV; the cell of a number that is not known is empty.

    Raises:
        OSError: if the file cannot be written.
    """
    headings, rows = table
    write_rows(path, [headings, *([_cell(value) for value in row] for row in rows)])


def _distinct(taken: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names, those that are taken with a number behind."""
    found: list[str] = []
    for name in names:
        given, k = name, 2
        while given in (*taken, *found):
            given, k = f"{name}_{k}", k + 1
        found.append(given)
    return found


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _known(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
