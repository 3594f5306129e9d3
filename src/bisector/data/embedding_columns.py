"""The columns of an embeddings file as they are found, and the classes made of them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bisector.errors import ArgumentError, require

Array = npt.NDArray[Any]

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, eq=False)
class Columns:
    """What a file holds, before anything is checked: every array has a row an example.

    A vector that is missing is a row of NaN; a label that is missing is NaN or None.
    """

    embeddings: Array  # (N, D)
    labels: Array  # (N,) of integers, floats or strings
    predictions: Array | None = None  # (N,), as the labels
    losses: Array | None = None  # (N,)
    scores: Array | None = None  # (N, C)
    names: Array | None = None  # (N,) of strings
    splits: Array | None = None  # (N,) of strings
    class_names: tuple[str, ...] | None = None
    notes: Mapping[str, Any] = field(
        default_factory=dict
    )  # model, data, left_out: as `bisector embed` wrote them


def class_numbers(
    labels: Array,  # (N,)
    predictions: Array | None,  # (N,)
    class_names: tuple[str, ...] | None,
    num_scores: int | None,
) -> tuple[Array, Array | None, tuple[str, ...], Array]:
    """Turn labels into classes from 0: `(labels, predictions, class_names, known)`, all rows kept.

    Integers are classes by number where the names of the classes are known or there are scores, a column a class;
    else the values that occur, in ascending order, are the classes. Strings are classes by name: of the names that
    are known, else of those that occur, sorted. `known` is False where a row has no label.

    Raises:
        ArgumentError: if a label or a prediction is not a class, or a prediction is missing.
    """
    known = ~_missing(labels)
    predicted = None if predictions is None else predictions[known]
    if predicted is not None and (absent := int(_missing(predicted).sum())):
        raise ArgumentError(
            f"predictions: got {absent} rows without one; expected one in every row, or no such column"
        )
    values = [labels[known], *([] if predicted is None else [predicted])]
    if any(_is_text(column) for column in values):
        numbers, names = _by_name([np.asarray(column, dtype=str) for column in values], class_names)
    else:
        numbers, names = _by_number([_whole(column) for column in values], class_names, num_scores)
    classes = np.full(len(labels), -1, dtype=np.int64)
    classes[known] = numbers[0]
    if predicted is None:
        return classes, None, names, known
    decided = np.full(len(labels), -1, dtype=np.int64)
    decided[known] = numbers[1]
    return classes, decided, names, known


def split_names(splits: Array) -> list[str]:
    """The splits in our words: train, validation, test.

    Raises:
        ArgumentError: for any other word.

    >>> split_names(np.array(["training", "val", "Test"]))
    ['train', 'validation', 'test']
    """
    words, rows = np.unique([str(split).lower() for split in splits], return_inverse=True)
    for word in words:
        require(word in _SPLITS, "split", repr(str(word)), "train, validation or test in every row")
    ours = [_SPLITS[str(word)] for word in words]
    return [ours[row] for row in rows]


def split_of_file(stem: str) -> str | None:
    """The split that a file of many is named after, as Hugging Face names them.

    >>> split_of_file("train-00000-of-00002"), split_of_file("part-3")
    ('train', None)
    """
    first = stem.replace("_", "-").replace(".", "-").split("-")[0].lower()
    return _SPLITS.get(first)


def log_probabilities(scores: Array) -> Array:  # (N, C)
    """Scores as logits: the logarithm if they are probabilities (none negative, every row sums to 1).

    >>> log_probabilities(np.array([[0.25, 0.75]])).round(4).tolist()
    [[-1.3863, -0.2877]]
    """
    finite = scores[np.isfinite(scores).all(axis=1)]
    if not len(finite) or finite.min() < 0 or np.abs(finite.sum(axis=1) - 1).max() > 1e-3:
        return scores
    return np.log(np.maximum(scores, np.finfo(np.float32).tiny))


def class_names_of(metadata: Mapping[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    """The names that Hugging Face's `ClassLabel` wrote into the metadata of a Parquet file, if it did."""
    text = (metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names = json.loads(text)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names))


def _is_text(column: Array) -> bool:
    return column.dtype.kind in "US" or (
        column.dtype.kind == "O" and any(isinstance(value, str) for value in column)
    )


def _missing(column: Array) -> Array:
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind == "O":
        return np.array([_absent(value) for value in column], dtype=bool)
    return np.zeros(len(column), dtype=bool)


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _whole(column: Array) -> Array:
    try:
        numbers = column.astype(np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"labels: got values of type {column.dtype}; expected integers or strings"
        ) from None
    stray = numbers[(numbers != np.round(numbers)) | ~np.isfinite(numbers)]
    require(not len(stray), "labels", stray[:3].tolist(), "whole numbers or strings")
    return column.astype(np.int64)


def _by_name(columns: list[Array], known: tuple[str, ...] | None) -> tuple[list[Array], tuple[str, ...]]:
    found = np.unique(np.concatenate(columns))
    names = tuple(map(str, found)) if known is None else known
    number = {name: position for position, name in enumerate(names)}
    stray = [str(name) for name in found if str(name) not in number]
    require(not stray, "labels", f"{stray[:3]}", f"names of classes: {', '.join(names[:10])}")
    table = np.array([number[str(name)] for name in found], dtype=np.int64)
    return [table[np.searchsorted(found, column)] for column in columns], names


def _by_number(
    columns: list[Array], known: tuple[str, ...] | None, num_scores: int | None
) -> tuple[list[Array], tuple[str, ...]]:
    found = np.unique(np.concatenate(columns))
    negative = found[found < 0]
    require(
        not len(negative),
        "labels",
        negative[:3].tolist(),
        "classes from 0; the cell of a missing label is empty",
    )
    if known is None and num_scores is None:
        return [np.searchsorted(found, column) for column in columns], tuple(map(str, found))
    names = tuple(map(str, range(num_scores or 0))) if known is None else known
    stray = found[found >= len(names)]
    require(not len(stray), "labels", stray[:3].tolist(), f"classes from 0 to {len(names) - 1}")
    return columns, names
