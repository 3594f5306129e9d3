"""Vectors that are stored as one column a dimension, read as if they were one column."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bisector.data.arrow_columns import is_vector

_SCORES = re.compile("score|logit|prob|pred|conf|softmax|loss|top", re.IGNORECASE)

Groups = Mapping[str, tuple[str, ...]]
"""The columns of the dimensions, by the name that the vectors get."""


def with_vectors(schema: pa.Schema) -> tuple[pa.Schema, Groups]:
    """The schema with a column more for every group of numbered columns, and what these are.

    A group has one prefix and the numbers from 0 or 1 on, without a gap: `0`, `1`, … or `dim_0`, `dim_1`, …; they
    are floating-point numbers, since whole ones may be anything, and not called scores. There are none beside a
    column of vectors.

    >>> names = ["label", "dim_1", "dim_0", "x1", "x3"]
    >>> schema, groups = with_vectors(pa.schema([(name, pa.float32()) for name in names]))
    >>> schema.names[5:], dict(groups)
    (['dim_0 to dim_1'], {'dim_0 to dim_1': ('dim_0', 'dim_1')})
    """
    found: dict[str, dict[int, str]] = {}
    if any(is_vector(field.type, nested=True) for field in schema):
        return schema, {}
    for field in schema:
        number = re.search(r"(?:0|[1-9][0-9]*)$", field.name)
        if number and pa.types.is_floating(field.type) and not _SCORES.match(field.name):
            found.setdefault(field.name[: number.start()], {})[int(number[0])] = field.name
    groups = {}
    for columns in found.values():
        first = min(columns)
        ordered = tuple(columns[number] for number in sorted(columns))
        if len(columns) > 1 and first in {0, 1} and max(columns) == first + len(columns) - 1:
            groups[f"{ordered[0]} to {ordered[-1]}"] = ordered
    for name, ordered in groups.items():
        schema = schema.append(pa.field(name, pa.list_(pa.float32(), len(ordered))))
    return schema, groups


def stored_names(names: Sequence[str] | None, groups: Groups) -> list[str] | None:
    """The columns of a file that hold these."""
    if names is None:
        return None
    return list(dict.fromkeys(one for name in names for one in groups.get(name, (name,))))


def with_vectors_joined(batch: Any, names: Sequence[str] | None, groups: Groups) -> Any:
    """A record batch with the vectors of the groups that were asked for; a missing number is NaN."""
    for name in groups if names is None else [name for name in names if name in groups]:
        columns = [batch.column(one).to_numpy(zero_copy_only=False) for one in groups[name]]
        values = np.stack(columns, axis=1).astype(np.float32, copy=False)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), len(columns))
        batch = batch.append_column(name, vectors)
    return batch
