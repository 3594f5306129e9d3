"""A number for each class, from a file of the user's: counts or amounts."""

import csv
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.data.tables.arrays import load_array
from bisector.errors import ArgumentError, require
from bisector.files import read_rows

_NAMES = ("class", "class_name", "name", "label")


def read_class_values(
    path: str | Path,
    class_names: Sequence[str],
    columns: Sequence[str],
) -> Tensor:  # (C,)
    """Read a number for each class, float64 in the order of `class_names`; NaN where the file leaves it empty.

    - **JSON**: an object of class name to number, or a list in the order of the classes.
    - **CSV** with a heading: a column `class` (or `class_name`, `name`, `label`) and the first of `columns` there
      is; every class once.
    - **npy**: a vector in the order of the classes.

    Raises:
        ArgumentError: a class is missing or there twice, or the file holds something else.
        OSError: it cannot be read.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npy":
            found: Any = _of_array(path)
        elif path.suffix.lower() == ".csv":
            found = _of_csv(path, columns)
        else:
            found = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
        if isinstance(found, Mapping):
            class_names = [unicodedata.normalize("NFC", name) for name in class_names]
            missing = [name for name in class_names if name not in found]
            require(
                not missing, f"{path}", f"no {missing[0]!r}" if missing else "", "a number for every class"
            )
            found = [found[name] for name in class_names]
        require(isinstance(found, list), f"{path}", type(found).__name__, "a list or an object of numbers")
        values = torch.tensor([_number(value) for value in found], dtype=torch.float64)
    except (ValueError, TypeError, OverflowError, RecursionError, csv.Error) as error:
        if isinstance(error, ArgumentError) and str(error).startswith(f"{path}"):
            raise
        raise ArgumentError(
            f"{path}: got no number for each class; expected {columns[0]}s ({error})"
        ) from None
    require(
        len(values) == len(class_names),
        f"{path}",
        f"{len(values)} numbers",
        f"{len(class_names)}, one a class",
    )
    return values


def _number(value: object) -> float:
    if value is None:
        return math.nan
    legal = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not legal:
        raise TypeError(f"{str(value)[:40]!r} is no number")
    return float(value)  # type: ignore[arg-type]


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of pairs, each key once."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        name = unicodedata.normalize("NFC", key)
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


def _of_array(path: Path) -> list[Any]:
    array = load_array(path)
    require(array.ndim == 1, f"{path}", f"shape {array.shape}", "(C,), a number a class")
    values: list[Any] = array.tolist()
    return values


def _of_csv(path: Path, columns: Sequence[str]) -> dict[str, float | None]:
    headings, rows = read_rows(path)
    name = next((heading for heading in _NAMES if heading in headings), None)
    value = next((heading for heading in columns if heading in headings), None)
    if name is None or value is None:
        raise ArgumentError(f"{path}: got the columns {', '.join(headings)}; expected class and {columns[0]}")
    return _once([(row[name], float(row[value]) if row[value] else None) for row in rows])
