"""How a file that cannot be read is told: one line with its name and the group."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from bisector.data.stored.location import one_line
from bisector.errors import ArgumentError, require


@contextmanager
def readable(file: str, where: str = "") -> Iterator[None]:
    """What goes wrong inside is an `ArgumentError` that names file and group."""
    try:
        yield
    except ArgumentError as error:
        if file in str(error):
            raise
        raise ArgumentError(f"file: {file}{where and f', {where}'}, {error}") from None
    except Exception as error:  # what is damaged, or has changed since, raises anything from anywhere
        raise ArgumentError(
            f"file: {file}{where and f', {where}'}, cannot be read: {one_line(error)}"
        ) from None


def with_names(schema: pa.Schema) -> pa.Schema:
    """The schema, if its names are text: pyarrow decodes them when they are first asked for; within `readable`.

    Raises:
        UnicodeDecodeError: one is not.
    """
    assert len(schema.names) == len(schema)
    return schema


def require_rows(file: str, where: str, found: int, expected: int) -> None:
    """Raise `ArgumentError` unless a group has the rows that the file says, or said, it has."""
    require(
        found == expected, "file", f"{file}, {where}, with {found} rows", f"{expected}, as its index says"
    )
