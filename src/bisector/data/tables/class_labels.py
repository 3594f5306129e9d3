"""Labels of images as names of classes, by the rules of tables of embeddings."""

from typing import Any

import numpy as np

from bisector.data.tables.classes import LabelValues
from bisector.data.tables.columns import distinct_names
from bisector.errors import ArgumentError


def named_labels(
    values: list[Any], known: list[str] | None, called: str, label: str
) -> tuple[dict[str, int], list[str | None]]:
    """The classes with their numbers, and the name of each row's class, by the rules of tables of embeddings."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    words = any(isinstance(value, str) for value in values)
    names = None if known is None or words else distinct_names(known)
    seen = LabelValues()
    try:
        seen.add(column)
        classes = seen.classes(names, None)
        numbers, _, _ = classes.numbers(column)
    except ArgumentError as error:
        raise ArgumentError(f"data: {called}, column {label!r}: {error}") from None
    # Words have no order of their own: they are ranked by name when all files are read.
    ranks = [0] * len(classes.names) if classes.by_name else range(len(classes.names))
    ranks = ranks if classes.values is None else classes.values.tolist()
    rows = [None if number < 0 else classes.names[number] for number in numbers.tolist()]
    return dict(zip(classes.names, ranks, strict=True)), rows
