"""The classes that labels name, whether these are numbers or words, and whether they come at once or in pieces."""

import math
import re
import unicodedata
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bisector.data.tables.columns import EXACT, Array, one_each, texts
from bisector.errors import ArgumentError, require

NO_LABEL_TEXTS = {"None", "nan"}
"""What says that a row has no label, unless a class is called so."""

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")  # as int64 and the text say the same; 007 is a word
_FLOAT = re.compile(
    r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*(?:[eE][-+][0-9]+)?|[eE][-+][0-9]+)"
)  # 1e5 may be hexadecimal


def typed_texts(texts: Sequence[str | None]) -> list[int | float | str | None]:
    """Labels that are text, as the numbers that they are written as if all of them are; None where there is none.

    Text has no types. A whole number, with or without .0, means the same whether words stand beside it or not; -1
    is no label in both.

    >>> typed_texts(["3", "", "7.0"]), typed_texts(["3.0", "007", "-1"])
    ([3, None, 7.0], ['3', '007', None])
    """
    values = [_typed(text) for text in texts]
    if not any(isinstance(value, str) for value in values):
        return values
    whole = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    return [None if value in {None, -1} else str(value) for value in whole]


def _typed(text: str | None) -> int | float | str | None:
    bare = "" if text is None else text.strip()
    if not bare or bare in NO_LABEL_TEXTS:
        return None
    if _WHOLE.fullmatch(bare):
        return int(bare)
    return float(bare) if _FLOAT.fullmatch(bare) else bare


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes 0 to C - 1 and the labels that mean them.

    Args:
        names: of the classes.
        by_name: labels are words: names of classes.
        values: (C,), where labels are numbers: that of each class, ascending; None where it is the class itself.
    """

    names: tuple[str, ...]
    by_name: bool = False
    values: Array | None = None  # (C,)

    def numbers(
        self,
        labels: Array,  # (N,)
        predictions: Array | None = None,  # (N,)
    ) -> tuple[Array, Array | None, Array]:
        """Labels and predictions as classes, -1 where there is none, and which rows have a label.

        A prediction in a row that has no label is none.

        Raises:
            ArgumentError: one of them is not a class.

        >>> Classes(("cat", "owl"), by_name=True).numbers(np.array(["owl", None]), np.array(["cat", "cat"]))
        (array([ 1, -1]), array([ 0, -1]), array([ True, False]))
        """
        labels = one_each("labels", labels)
        known = ~_missing(labels, self.names)
        predicted = None
        if predictions is not None:
            predictions = one_each("predictions", predictions)
            predicted = self._filled(predictions, known & ~_missing(predictions, self.names))
        return self._filled(labels, known), predicted, known

    def _filled(self, column: Array, there: Array) -> Array:  # (N,)
        found = np.full(len(column), -1, dtype=np.int64)
        found[there] = self._found(column[there])
        return found

    def _found(self, column: Array) -> Array:
        if self.by_name:
            words = _words(column)
            unknown = sorted({word for word in words if word not in self._positions})
            require(
                not unknown, "labels", f"{unknown[:3]}", f"names of classes: {', '.join(self.names[:10])}"
            )
            return np.array([self._positions[word] for word in words], dtype=np.int64)
        whole = _classes_from_0(_whole(column))
        if self.values is None:
            stray = np.unique(whole[whole >= len(self.names)])
            require(not len(stray), "labels", stray[:3].tolist(), f"classes from 0 to {len(self.names) - 1}")
            return whole
        places = np.searchsorted(self.values, whole).clip(max=max(len(self.values) - 1, 0))
        stray = whole[self.values[places] != whole] if len(self.values) else whole
        require(not len(stray), "labels", stray[:3].tolist(), "the labels that were there before")
        return places

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}


@dataclass
class LabelValues:
    """The different labels and predictions of a table, gathered piece by piece; no row is kept.

    >>> seen = LabelValues()
    >>> seen.add(np.array([7, 4, 7]))
    >>> seen.classes(None, None).names
    ('4', '7')
    """

    seen: set[Any] = field(default_factory=set)

    def add(
        self,
        labels: Array,  # (N,)
        predictions: Array | None = None,  # (N,)
    ) -> None:
        """Take in rows; a prediction in a row that has no label is passed over.

        Raises:
            ArgumentError: a row holds several labels.
        """
        labels = one_each("labels", labels)
        known = ~_missing(labels)
        self.seen.update(_different(labels[known]))
        if predictions is not None:
            predictions = one_each("predictions", predictions)
            self.seen.update(_different(predictions[known & ~_missing(predictions)]))

    @property
    def words(self) -> list[str]:
        """The labels as names of classes, sorted."""
        return sorted(set(_words(self._values)))

    @property
    def _values(self) -> Array:
        values = np.empty(len(self.seen), dtype=object)
        values[:] = list(self.seen)
        return values

    def classes(
        self, class_names: tuple[str, ...] | None, num_scores: int | None, *, by_name: bool = False
    ) -> Classes:
        """The classes, of which some may be known already: by name, or by the number of scores in a row.

        Integers are classes by number where the names of the classes are known or there are scores, a column a
        class; else the values that occur, in ascending order, are the classes. Words are classes by name: of the
        names that are known, else of those that occur, sorted. So are numbers `by_name`.

        Raises:
            ArgumentError: a label or a prediction is not a class.
        """
        values = self._values
        if by_name or any(isinstance(value, (str, bytes)) for value in self.seen):
            names = tuple(self.words) if class_names is None else class_names
            classes = Classes(names, by_name=True)
        elif class_names is None and num_scores is None:
            found = _classes_from_0(np.sort(_whole(values)))
            return Classes(tuple(map(str, found.tolist())), values=found)
        else:
            names = tuple(map(str, range(num_scores or 0))) if class_names is None else class_names
            classes = Classes(names)
        classes.numbers(values)  # raises for a stray one
        return classes


def _different(column: Array) -> list[Any]:
    # A set would compare objects that numpy cannot sort, words beside bytes.
    return list(set(column.tolist())) if column.dtype.kind == "O" else np.unique(column).tolist()


def _words(column: Array) -> list[str]:
    """Labels as words; a whole number has no point, so that 3 and 3.0, as a column with gaps has it, are one."""
    if column.dtype.kind in "fO":
        _require_exact(column)
        column = np.array(
            [
                int(value) if isinstance(value, float) and value.is_integer() else value
                for value in column.tolist()
            ],
            dtype=object,
        )
    # A name typed on one system and read on another may differ in Unicode's form alone.
    return [unicodedata.normalize("NFC", str(word)) for word in texts("labels", column).tolist()]


def _missing(column: Array, names: Container[str] = ()) -> Array:
    """Which labels say that there is none: null, NaN, -1, "", or the text of None or NaN that is no name."""
    if column.dtype.kind == "f":
        return np.asarray(np.isnan(column) | (column == -1))
    if column.dtype.kind == "i":
        return np.asarray(column == -1)
    if column.dtype.kind in "OUS":
        return np.array([_absent(value, names) for value in column.tolist()], dtype=bool)
    return np.zeros(len(column), dtype=bool)


def _absent(value: object, names: Container[str]) -> bool:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        # str() and numpy's astype(str) write a missing label as the text "None" or "nan".
        return not value or (value in NO_LABEL_TEXTS and value not in names)
    return value is None or value == -1 or (isinstance(value, float) and math.isnan(value))


def _require_exact(column: Array) -> None:
    """Raise `ArgumentError` for a float that may have been one of several integers."""
    if column.dtype.kind == "f":
        large = column[np.isfinite(column) & (np.abs(column) >= EXACT)].tolist()
    elif column.dtype.kind == "O":
        floats = (value for value in column if isinstance(value, float))
        large = [value for value in floats if math.isfinite(value) and abs(value) >= EXACT]
    else:
        return
    require(
        not large,
        "labels",
        large[:3],
        "integers, not floats, from 2^53 on: labels next to these are the same",
    )


def _whole(column: Array) -> Array:
    _require_exact(column)
    try:
        values = column.astype(np.float64)
        stray = values[(values != np.round(values)) | ~np.isfinite(values)]
        require(not len(stray), "labels", stray[:3].tolist(), "whole numbers or strings")
        large = values[np.abs(values) >= 2.0**63]
        require(not len(large), "labels", large[:3].tolist(), "classes from 0")
        return column.astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"labels: got values of type {column.dtype}; expected integers or strings"
        ) from None


def _classes_from_0(values: Array) -> Array:
    negative = np.unique(values[values < 0])
    legal = "classes from 0; a missing label is empty or -1"
    require(not len(negative), "labels", negative[:3].tolist(), legal)
    return values
