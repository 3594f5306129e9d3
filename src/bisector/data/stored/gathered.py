"""Record batches, large or small, as pieces of numpy arrays of one size."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bisector.data.arrow_columns import absent, to_array
from bisector.data.embedding_columns import Array
from bisector.data.stored.part import Part, Piece
from bisector.errors import require


class Gathered:
    """Batches of a part, put together to pieces of one size.

    Args:
        columns: the name of each column, by what it holds.
        widths: numbers in a row, of the columns of vectors.
        part: that the batches are of.
        keys: of the columns that are wanted.
        size: rows of a piece at most.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        widths: Mapping[str, int],
        part: Part,
        keys: Sequence[str],
        size: int,
    ) -> None:
        self._columns, self._widths, self._part, self._keys, self._size = columns, widths, part, keys, size
        self._given = 0  # rows
        self._held: list[dict[str, Array]] = []
        self._rows = 0
        self._into: dict[str, Array] = {}

    def add(self, batch: Any, where: str) -> Iterator[Piece]:
        """Take a batch in; a piece where one is full."""
        start = 0
        while start < batch.num_rows:
            taken = batch.slice(start, self._size - self._rows)
            start += taken.num_rows
            self._take(taken, where)
            if self._rows == self._size:
                yield self._piece()

    @property
    def total(self) -> int:
        """Rows that were taken in."""
        return self._given + self._rows

    def rest(self) -> Iterator[Piece]:
        """The last piece, which may have fewer rows than the others."""
        if self._rows or not self._given:
            yield self._piece()

    def _take(self, batch: Any, where: str) -> None:
        columns: dict[str, Array] = {}
        for key in self._keys:
            array = self._array(batch, key, where)
            if key in self._widths:
                # A vector is put where it will stay; the batch's memory goes back to Arrow at once.
                if key not in self._into:
                    shape = (min(self._size, self._part.rows - self._given), array.shape[1])
                    self._into[key] = np.empty(shape, dtype=np.float32)
                self._into[key][self._rows : self._rows + len(array)] = array
            else:
                columns[key] = array
        self._held.append(columns)
        self._rows += batch.num_rows

    def _array(self, batch: Any, key: str, where: str) -> Array:
        name, width = self._columns[key], self._widths.get(key)
        chunk = batch.column(name)
        if chunk.null_count == len(chunk):
            return absent(len(chunk), () if width is None else (width,))
        array = to_array(chunk, name)
        if width is not None:
            told = f"{self._part.file} with {name!r} of {array.shape[-1]} numbers a row in {where}"
            require(array.shape[1:] == (width,), "file", told, f"{width}, as in the rows before")
        return array

    def _piece(self) -> Piece:
        columns = {
            key: self._into[key][: self._rows]
            if key in self._into
            else np.concatenate([held[key] for held in self._held])
            if self._held
            else absent(0, (width,) if (width := self._widths.get(key)) is not None else ())
            for key in self._keys
        }
        piece = Piece(self._part, self._part.first + self._given, columns, self._rows)
        self._given += self._rows
        self._held, self._into, self._rows = [], {}, 0
        return piece
