"""Parquet, a row group at a time and of a large one a piece at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

from bisector.data.stored.location import Location
from bisector.data.stored.numbered import stored_names, with_vectors, with_vectors_joined
from bisector.data.stored.reading import readable, require_rows, with_names
from bisector.errors import missing_extra

try:
    import pyarrow.parquet as pq
except ImportError:
    raise missing_extra("pyarrow", "measure") from None

_BUFFER = 2**20  # read ahead of what is decoded; without it a column of a row group is read whole


class ParquetReader:
    """One open file.

    Checksums of pages are verified where the file has them. In a file without them, which is what pyarrow writes
    unless it is told otherwise, a changed byte of a page that is not compressed is not found: it is another number.

    Args:
        location: of the data set.
        file: in it.
        names: of the columns to read; all if None.
    """

    group_name = "row group"

    def __init__(self, location: Location, file: str, names: Sequence[str] | None = None) -> None:
        self.file = file
        self._names = None if names is None else list(names)
        with readable(file):
            self._source = location.open(file)
            self._parquet = pq.ParquetFile(
                self._source, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            )
            self.schema, self._groups = with_vectors(with_names(self._parquet.schema_arrow))

    def counts(self) -> list[int]:
        """Rows of every row group."""
        about = self._parquet.metadata
        return [about.row_group(group).num_rows for group in range(about.num_row_groups)]

    def batches(self, group: int, rows: int) -> Iterator[Any]:
        """The rows of a row group, so many at a time, as Arrow record batches.

        Raises:
            ArgumentError: it cannot be read; the message names file and row group.
        """
        told = f"{self.group_name} {group}"
        with readable(self.file, told):
            expected = self._parquet.metadata.row_group(group).num_rows
            batches = self._parquet.iter_batches(
                rows, row_groups=[group], columns=stored_names(self._names, self._groups), use_threads=False
            )
        found = 0
        while True:
            with readable(self.file, told):
                batch = next(batches, None)
            if batch is None:
                break
            found += batch.num_rows
            yield with_vectors_joined(batch, self._names, self._groups)
        require_rows(self.file, told, found, expected)

    def close(self) -> None:
        """Give the file back."""
        self._parquet.close()
        self._source.close()
