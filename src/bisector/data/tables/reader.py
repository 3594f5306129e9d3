"""How every format of tables is read: consecutive parts, fixed by the files alone, in pieces of bounded size."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bisector.data.tables.columns import Array

ROWS = 65536
"""Rows of a part at most, where it is not one large row group or record batch."""

_TOLD = 5  # columns that are not used
_BYTES = 2**24  # of vectors in a piece: allocations of this size the C library takes back and hands out again


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one file: a row group, a record batch, a block of lines, or a slice of an array.

    Small neighbours are one part, up to 65,536 rows: a file may have a row group for every hundred rows.

    Args:
        file: that holds it.
        group: the row group, record batch, block or slice; the first, where it is several.
        rows: how many it has.
        first: number of its first row in the whole table.
        groups: how many neighbours it is.
    """

    file: str
    group: int
    rows: int
    first: int
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive rows of a part as they are stored, before anything is checked.

    A vector that is missing is a row of NaN; so are scores. A label or prediction that is missing is NaN or None.

    Args:
        part: that they are of.
        first: number of the first of them in the whole table.
        columns: by the keys of `bisector.data.tables.columns.ALIASES`.
        rows: that each of them has.
    """

    part: Part
    first: int
    columns: dict[str, Array]
    rows: int


@dataclass(frozen=True)
class TableReader(ABC):
    """Reads a stored table. It is small and picklable, and keeps nothing open between two calls.

    Args:
        columns: the name of each column that is there, by what it holds.
        widths: numbers in a row of the vectors ("embeddings") and of the scores, where they are there.
        parts: in the order of the rows.
        stamps: name, size in bytes and time of change in nanoseconds (0 where unknown) of every file.
        class_names: where they are stored.
        notes: as `bisector embed` writes them.
        file_splits: the split of each file, where their names say it.
        unused: the columns that are taken for nothing.
        class_columns: the columns of scores that are called after classes, as prob_cat, by class and in order.
    """

    columns: Mapping[str, str]
    widths: Mapping[str, int]
    parts: tuple[Part, ...]
    stamps: tuple[tuple[str, int, int], ...]
    class_names: tuple[str, ...] | None
    notes: Mapping[str, Any]
    file_splits: Mapping[str, str]
    unused: tuple[str, ...]
    class_columns: Mapping[str, str]

    @abstractmethod
    def pieces(self, parts: Iterable[Part], keys: Sequence[str]) -> Iterator[Piece]:
        """Yield the rows of these parts in their order, with those of the columns `keys` that are there.

        Raises:
            ArgumentError: a file cannot be read; the message names it and the group.
        """

    @property
    def keys(self) -> frozenset[str]:
        """What there is of every row."""
        return frozenset(self.columns) | ({"splits"} if self.file_splits else set())

    @property
    def scores_name(self) -> str:
        """What the scores are called: it may say what they are."""
        return self.columns.get("scores", "scores")

    @property
    def columns_line(self) -> str:
        """Say which column is taken for what, and which for nothing: whoever means another must see it."""
        ends = [list(self.class_columns.values())[place] for place in (0, -1) if self.class_columns]
        called = {**self.columns, **({"scores": " to ".join(ends)} if ends else {})}
        taken = ", ".join(f"{name!r} as {key}" for key, name in called.items())
        more = f" and {len(self.unused) - _TOLD} more" * (len(self.unused) > _TOLD)
        unused = f"; not used: {', '.join(map(repr, self.unused[:_TOLD]))}{more}" * bool(self.unused)
        return f"columns: {taken}{unused}"

    def piece_rows(self, keys: Iterable[str]) -> int:
        """Rows of a piece with these columns at most: 65,536, or what 16 MiB of vectors hold."""
        widest = max((self.widths.get(key, 1) for key in keys), default=1)
        return max(1, min(ROWS, _BYTES // (4 * max(widest, 1))))


def parts_of(file: str, groups: Sequence[int], first: int) -> Iterator[Part]:
    """Yield the parts of a file whose groups have so many rows each.

    >>> [(part.group, part.groups, part.rows) for part in parts_of("a", [30_000, 30_000, 30_000, 90_000], 0)]
    [(0, 2, 60000), (2, 1, 30000), (3, 1, 90000)]
    """
    start, rows = 0, 0
    for group, count in enumerate(groups):
        if rows and rows + count > ROWS:
            yield Part(file, start, rows, first, group - start)
            start, first, rows = group, first + rows, 0
        rows += count
    if rows:
        yield Part(file, start, rows, first, len(groups) - start)
