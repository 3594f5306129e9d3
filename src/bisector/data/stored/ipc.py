"""Arrow's own files, with an index (Feather) or as a stream (Hugging Face), a record batch at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from bisector.data.stored.location import Location
from bisector.data.stored.numbered import stored_names, with_vectors, with_vectors_joined
from bisector.data.stored.reading import readable, with_names
from bisector.errors import require

_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class ArrowReader:
    """One open file.

    A file has no checksums: a changed byte in a batch that is not compressed is another number, or, in the lengths
    of lists or words, found. A stream that does not end with its mark was cut short.

    Args:
        location: of the data set.
        file: in it.
        names: of the columns to read; all if None.
        counting: for `counts` alone: the file is mapped, so that of a large one only the counts are read.
    """

    group_name = "record batch"

    def __init__(
        self, location: Location, file: str, names: Sequence[str] | None = None, *, counting: bool = False
    ) -> None:
        self.file = file
        self._next = 0
        with readable(file):
            self._source = location.open(file, mapped=counting)
            self._size = self._source.size()
            self._indexed = self._source.read(6) == b"ARROW1"
            self._open(None)
            self.schema, self._groups = with_vectors(with_names(self._reader.schema))
            stored = stored_names(names, self._groups)
            self._names = names
            self._fields = None if stored is None else [self.schema.get_field_index(name) for name in stored]
            if self._fields is not None:
                self._open(self._fields)

    def counts(self) -> list[int]:
        """Rows of every record batch.

        Raises:
            ArgumentError: one cannot be read, or the end is missing.
        """
        found: list[int] = []
        if self._indexed:
            for group in range(self._reader.num_record_batches):
                with readable(self.file, f"{self.group_name} {group}"):
                    found.append(self._reader.get_batch(group).num_rows)
            return found
        while (batch := self._following()) is not None:
            found.append(batch.num_rows)
        with readable(self.file):
            self._source.seek(self._size - len(_END))
            whole = self._source.read(len(_END)) == _END
        told = f"{self.file}, cut short after record batch {len(found) - 1}"
        require(whole, "file", told, "a stream that ends with its mark")
        return found

    def batches(self, group: int, rows: int) -> Iterator[Any]:
        """The rows of a record batch, so many at a time.

        Raises:
            ArgumentError: it cannot be read; the message names file and record batch.
        """
        told = f"{self.group_name} {group}"
        with readable(self.file, told):
            if self._indexed:
                batch = self._reader.get_batch(group)
            else:
                if group < self._next:
                    self._open(self._fields)
                batch = None
                while self._next <= group:
                    batch = self._following()
                    require(batch is not None, "file", f"{self.file} without {told}", "it, as before")
            batch.validate(full=True)  # what a length in a damaged file points to may not be ours
        for start in range(0, batch.num_rows, rows):
            yield with_vectors_joined(batch.slice(start, rows), self._names, self._groups)

    def close(self) -> None:
        """Give the file back."""
        self._source.close()

    def _open(self, fields: list[int] | None) -> None:
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
        self._source.seek(0)
        self._next = 0
        open_it = pa.ipc.open_file if self._indexed else pa.ipc.open_stream
        self._reader = open_it(self._source, options=options)

    def _following(self) -> Any:
        """The next batch of a stream; None at its end."""
        with readable(self.file, f"{self.group_name} {self._next}"):
            try:
                batch = self._reader.read_next_batch()
            except StopIteration:
                return None
        self._next += 1
        return batch
