"""The parts that stored data comes in: what one reading step reads, fixed by the files alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bisector.data.embedding_columns import Array

ROWS = 65536
"""Rows of a part at most, where it is not one large row group or record batch."""

_BYTES = 2**24  # of vectors in a piece: allocations of this size the C library takes back and hands out again


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one file: a row group, a record batch, or a slice of an array.

    Small neighbours are one part, up to 65,536 rows: a file may have a row group for every hundred rows.

    Args:
        file: that holds it.
        group: the row group, record batch or slice; the first, where it is several.
        rows: how many it has.
        first: number of its first row in the whole data set.
        groups: how many neighbours it is.
    """

    file: str
    group: int
    rows: int
    first: int
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive rows of a part as they are stored: a missing vector is a row of NaN, see `Columns`.

    Args:
        part: that they are of.
        first: number of the first of them in the whole data set.
        columns: by the keys of `bisector.data.embedding_columns.ALIASES`.
        rows: that each of them has.
    """

    part: Part
    first: int
    columns: dict[str, Array]
    rows: int


@dataclass(frozen=True)
class About:
    """What is known of a data set without reading its rows.

    Args:
        dim: D, numbers in a vector.
        columns: the name of each column, by what it holds.
        keys: of the columns that are there, or that the names of the files give.
        num_scores: numbers in a row of scores, if there are any.
        scores_name: what the scores are called.
        class_names: where they are stored.
        notes: as `bisector embed` writes them.
    """

    dim: int
    columns: Mapping[str, str]
    keys: frozenset[str]
    num_scores: int | None
    scores_name: str
    class_names: tuple[str, ...] | None
    notes: dict[str, Any]


class Source(Protocol):
    """Something that stores a table: picklable, small, and nothing stays open between two calls."""

    @property
    def about(self) -> About:
        """What is known before a row is read."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them, in the order of their rows."""

    @property
    def stamps(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size in bytes and time of change in nanoseconds (0 where unknown) of every file."""

    def pieces(self, parts: Iterable[Part], keys: Sequence[str]) -> Iterator[Piece]:
        """The rows of these parts in their order; of each part at least one piece.

        Raises:
            ArgumentError: a file cannot be read; the message names it and the group.
        """


def parts_of(file: str, groups: Sequence[int], first: int) -> Iterator[Part]:
    """The parts of a file whose groups have so many rows each.

    >>> [(part.group, part.groups, part.rows) for part in parts_of("a", [30_000, 30_000, 30_000, 90_000], 0)]
    [(0, 2, 60000), (2, 1, 30000), (3, 1, 90000)]
    """
    start, rows = 0, 0
    for group, count in enumerate(groups):
        if group > start and rows + count > ROWS:
            yield Part(file, start, rows, first, group - start)
            start, first, rows = group, first + rows, 0
        rows += count
    if rows:
        yield Part(file, start, rows, first, len(groups) - start)


def piece_rows(dim: int) -> int:
    """Rows of a piece at most: 65,536, or what 16 MiB of vectors hold.

    >>> piece_rows(8), piece_rows(256), piece_rows(1024)
    (65536, 16384, 4096)
    """
    return max(1, min(ROWS, _BYTES // (4 * max(dim, 1))))
