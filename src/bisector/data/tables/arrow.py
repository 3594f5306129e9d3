"""Parquet, Arrow and lines of text, one file or many with one schema, read a piece of a group at a time.

`pyarrow.dataset` would do some of it, but it reads a whole row group before it gives out the first batch (712 MiB
instead of 22 for a row group of 234), knows no Arrow streams, and does not say which row group is damaged.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisector.data.tables import json_lines
from bisector.data.tables.arrow_columns import (
    Groups,
    absent,
    class_columns,
    find_columns,
    hugging_face_names,
    notes_of,
    require_same_columns,
    stored_names,
    to_array,
    unused,
    with_vectors,
    with_vectors_joined,
)
from bisector.data.tables.columns import ALIASES, Array, distinct_names, lines_of, one_each, several_labels
from bisector.data.tables.delimited import (
    NUMBERS,
    WORDS,
    cells,
    first_wrong,
    kinds_of,
    labels_of,
    left_open,
    parsed,
    what_is_wrong,
)
from bisector.data.tables.listing import Format, Listing, Location, one_line
from bisector.data.tables.reader import Part, Piece, TableReader, parts_of
from bisector.errors import ArgumentError, require

_FIND = 64  # rows read at once where a vector is looked for
_READ = 2**20  # bytes of vectors decoded at once: what Arrow allocates stays small, and is used again
_BUFFER = 2**20  # read ahead of what is decoded; without it a column of a row group is read whole
_BLOCK = 2**20  # bytes of text whose lines are a group
_FIRST_ROWS = 20  # that say what the columns of text are
_LINE = 2**26  # bytes of a line at most: else it is no text
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of an Arrow stream


@dataclass(frozen=True)
class ArrowTable(TableReader):
    """A table in files that pyarrow reads.

    Args:
        location: of the files.
        format: of them.
    """

    location: Location
    format: Format

    def pieces(self, parts: Iterable[Part], keys: Sequence[str]) -> Iterator[Piece]:
        """See `TableReader`."""
        wanted = [key for key in keys if key in self.columns]
        names = list(dict.fromkeys(self.columns[key] for key in wanted))
        file: _File | None = None
        try:
            for part in parts:
                if file is None or file.name != part.file:
                    if file is not None:
                        file.close()
                    file = _open(self.location, part.file, self.format, names)
                for piece in self._pieces(file, part, wanted):
                    if split := self.file_splits.get(part.file):
                        piece.columns["splits"] = np.full(piece.rows, split)
                    yield piece
        finally:
            if file is not None:
                file.close()

    def _pieces(self, file: "_File", part: Part, keys: Sequence[str]) -> Iterator[Piece]:
        """The rows of a part: batches, large or small, put together to pieces of one size."""
        size = self.piece_rows(keys)
        step = min(size, max(1, _READ // (4 * max((self.widths.get(key, 1) for key in keys), default=1))))
        where = f"{file.group_name}s {part.group} to {part.group + part.groups - 1}"
        given, rows = 0, 0  # of the part, of this piece
        vectors: dict[str, Array] = {}
        others: dict[str, list[Array]] = {}
        for group in range(part.group, part.group + part.groups):
            for batch in file.batches(group, step):
                start = 0
                while start < batch.num_rows:
                    full = min(size, part.rows - given)
                    if not full:
                        _require_rows(part.file, where, given + batch.num_rows, part.rows)
                    taken = batch.slice(start, full - rows)
                    for key in keys:
                        array = self._array(taken, key, part.file, f"{file.group_name} {group}")
                        if key in self.widths:
                            # A vector is put where it will stay; the batch's memory goes back to Arrow at once.
                            if key not in vectors:
                                vectors[key] = np.empty((full, self.widths[key]), np.float32)
                            vectors[key][rows : rows + len(array)] = array
                        else:
                            others.setdefault(key, []).append(array)
                    start, rows = start + taken.num_rows, rows + taken.num_rows
                    if rows == full:
                        columns = vectors | {key: np.concatenate(held) for key, held in others.items()}
                        yield Piece(part, part.first + given, columns, rows)
                        given, rows, vectors, others = given + rows, 0, {}, {}
        _require_rows(part.file, where, given + rows, part.rows)  # it may have changed since it was opened

    def _array(self, batch: Any, key: str, file: str, where: str) -> Array:
        name, width = self.columns[key], self.widths.get(key)
        with readable(file, where):
            chunk = batch.column(name)
            if key in {"labels", "predictions"}:
                if self.format == "text" and chunk.type == WORDS:
                    chunk = labels_of(chunk)
                require_one_label(chunk, name)
            if chunk.null_count == len(chunk):
                return absent(len(chunk), width)
            array = to_array(chunk, name)
            if key in {"labels", "predictions"}:
                one_each(key, array)  # raises for several in a row, and names the file
            if width is not None:
                told = f"{file} with {name!r} of {array.shape[-1]} numbers a row in {where}"
                require(array.shape[1:] == (width,), "file", told, f"{width}, as in the rows before")
            return array


def open_arrow(
    location: Location,
    listing: Listing,
    embedding: str | None,
    label: str | None,
    *,
    vectors_needed: bool = True,
) -> ArrowTable:
    """Find the columns, the parts and what else can be known without reading the vectors.

    Args:
        location: of the files.
        listing: of them.
        embedding: the column of vectors, where it is not the usual one.
        label: the column of labels.
        vectors_needed: whether a table of scores without vectors is refused.

    Raises:
        ArgumentError: a file cannot be read, or they do not fit each other.
    """
    files = listing.files
    parts, first = list[Part](), 0
    columns: dict[str, str] = {}
    schema: Any = None
    groups: Groups = {}
    counts: dict[str, list[int]] = {}
    for name in files:
        with _opened(location, name, listing.format) as file:
            schema, groups = schema or file.schema, groups or file.groups
            columns = columns or find_columns(
                schema, groups, embedding, label, name, vectors_needed=vectors_needed
            )
            _require_apart(columns, file.groups)
            require_same_columns(schema, file.schema, list(columns.values()), file=name, like=files[0])
            scores = columns.get("scores", "")
            same = list(class_columns(file.groups, scores)) == list(class_columns(groups, scores))
            require(same, "file", f"{name} with scores of other classes", f"the columns of {files[0]}")
            counts[name] = file.counts(columns["labels"])
        parts.extend(parts_of(name, counts[name], first))
        first += sum(counts[name])
    widths: dict[str, int] = {
        key: len(groups.get(columns[key], ())) or _width(location, counts, listing.format, columns[key])
        for key in ("embeddings", "scores")
        if key in columns
    }
    if widths.get("scores") == 0:  # not one row has any
        del widths["scores"], columns["scores"]
    if widths.get("embeddings") == 0:
        raise ArgumentError("file: got no row that has a label and a finite vector; expected at least one")
    notes = notes_of(schema.metadata, files[0])
    names = (
        notes.get("class_names")
        or hugging_face_names(schema.metadata, columns["labels"])
        or listing.class_names.get(columns["labels"])
    )
    return ArrowTable(
        columns=columns,
        widths=widths,
        parts=tuple(parts),
        stamps=location.stamps(files),
        class_names=distinct_names(names) if names else None,
        notes=notes,
        file_splits={} if "splits" in columns else listing.splits(),
        unused=unused(schema, groups, columns),
        class_columns=class_columns(groups, columns.get("scores", "")),
        location=location,
        format=listing.format,
    )


def schema_of(location: Location, listing: Listing) -> pa.Schema:
    """The schema of the first file, with the vectors that stand in numbered columns.

    Raises:
        ArgumentError: it cannot be read.
    """
    with _opened(location, listing.files[0], listing.format) as file:
        return file.schema


@contextmanager
def readable(file: str, where: str = "") -> Iterator[None]:
    """Raise an `ArgumentError` that names file and group for whatever goes wrong inside."""
    told = f"{file}, {where}" if where else file
    try:
        yield
    except ArgumentError as error:
        if file in str(error):
            raise
        raise ArgumentError(f"file: {told}, {error}") from None
    except Exception as error:  # what is damaged, or has changed since, raises anything from anywhere
        raise ArgumentError(f"file: {told}, cannot be read: {one_line(error)}") from None


def require_one_label(chunk: Any, name: str) -> None:
    """Raise `ArgumentError` for labels that are lists of several lengths; `columns.one_each` sees the others."""
    if pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
        rows = chunk.drop_null()
        if len(rows.value_lengths().unique()) > 1:
            raise several_labels(f"column {name!r}: got a list, {str(rows[0].as_py())[:40]}")


def _require_apart(columns: Mapping[str, str], groups: Groups) -> None:
    """Raise `ArgumentError` where the labels are a number of the vectors, which would then tell them."""
    vectors, label = columns.get("embeddings", ""), columns["labels"]
    inside = label in groups.get(vectors, ())
    require(not inside, "label column", f"{label!r}, which is one of {vectors!r}", "another name for it")


def _require_rows(file: str, where: str, found: int, expected: int) -> None:
    require(
        found == expected, "file", f"{file}, {where}, with {found} rows", f"{expected}, as its index says"
    )


def _width(location: Location, counts: dict[str, list[int]], format: Format, column: str) -> int:
    """Numbers in a row, of the first row that is not missing; 0 where there is none."""
    for name, groups in counts.items():
        with _opened(location, name, format, [column]) as file:
            for group, rows in enumerate(groups):
                for batch in file.batches(group, _FIND) if rows else ():
                    chunk = batch.column(column)
                    if chunk.null_count < len(chunk):
                        with readable(name, f"{file.group_name} {group}"):
                            return int(to_array(chunk.drop_null().slice(0, 1), column).shape[1])
    return 0


class _File(Protocol):
    """An open file of any format."""

    name: str
    group_name: str
    schema: pa.Schema
    groups: Groups

    def counts(self, label: str) -> list[int]:
        """Rows of every group; where they must be counted, nothing but the labels is decoded."""

    def batches(self, group: int, rows: int) -> Iterator[Any]:
        """The rows of a group as Arrow record batches, so many at a time."""

    def close(self) -> None:
        """Give the file back."""


def _open(location: Location, name: str, format: Format, columns: Sequence[str] | None = None) -> _File:
    return _FILES[format](location, name, columns)


@contextmanager
def _opened(
    location: Location, name: str, format: Format, columns: Sequence[str] | None = None
) -> Iterator[_File]:
    file = _open(location, name, format, columns)
    try:
        yield file
    finally:
        file.close()


class _ParquetFile:
    """Parquet. Checksums of pages are verified where the file has them.

    In a file without them, which is what pyarrow writes unless it is told otherwise, a changed byte of a page that
    is not compressed is not found: it is another number.
    """

    group_name = "row group"

    def __init__(self, location: Location, name: str, columns: Sequence[str] | None) -> None:
        self.name, self._columns = name, columns
        with readable(name):
            self._source = location.open(name)
            self._parquet = pq.ParquetFile(
                self._source, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            )
            self.schema, self.groups = with_vectors(self._parquet.schema_arrow)

    def counts(self, label: str) -> list[int]:
        about = self._parquet.metadata
        return [about.row_group(group).num_rows for group in range(about.num_row_groups)]

    def batches(self, group: int, rows: int) -> Iterator[Any]:
        told = f"{self.group_name} {group}"
        with readable(self.name, told):
            expected = self._parquet.metadata.row_group(group).num_rows
            batches = self._parquet.iter_batches(
                rows, row_groups=[group], columns=stored_names(self._columns, self.groups), use_threads=False
            )
        found = 0
        while True:
            with readable(self.name, told):
                batch = next(batches, None)
            if batch is None:
                break
            found += batch.num_rows
            yield with_vectors_joined(batch, self._columns, self.groups)
        _require_rows(self.name, told, found, expected)

    def close(self) -> None:
        self._parquet.close()
        self._source.close()


class _IpcFile:
    """Arrow's own format, with an index (Feather) or as a stream (Hugging Face).

    It has no checksums: a changed byte in a batch that is not compressed is another number, or, in the lengths of
    lists or words, found. A stream that does not end with its mark was cut short.
    """

    group_name = "record batch"

    def __init__(
        self, location: Location, name: str, columns: Sequence[str] | None, *, mapped: bool = False
    ) -> None:
        self.name, self._columns, self._location = name, columns, location
        with readable(name):
            self._source = location.open(name, mapped=mapped)
            self._indexed = self._source.read(6) == b"ARROW1"
            self._open(None)
            self.schema, self.groups = with_vectors(self._reader.schema)
            stored = stored_names(columns, self.groups)
            self._fields = None if stored is None else [self.schema.get_field_index(one) for one in stored]
            if stored is not None:
                self._open(self._fields)

    def counts(self, label: str) -> list[int]:
        counted = _IpcFile(self._location, self.name, [label], mapped=True)
        try:
            return counted._counts()
        finally:
            counted.close()

    def _counts(self) -> list[int]:
        found: list[int] = []
        if self._indexed:
            for group in range(self._reader.num_record_batches):
                with readable(self.name, f"{self.group_name} {group}"):
                    found.append(self._reader.get_batch(group).num_rows)
            return found
        while (batch := self._following()) is not None:
            found.append(batch.num_rows)
        with readable(self.name):
            self._source.seek(self._source.size() - len(_END))
            whole = self._source.read(len(_END)) == _END
        told = f"{self.name}, cut short after record batch {len(found) - 1}"
        require(whole, "file", told, "a stream that ends with its mark")
        return found

    def batches(self, group: int, rows: int) -> Iterator[Any]:
        told = f"{self.group_name} {group}"
        with readable(self.name, told):
            if self._indexed:
                batch = self._reader.get_batch(group)
            else:
                if group < self._next:
                    self._open(self._fields)
                batch = None
                while self._next <= group:
                    batch = self._following()
                    require(batch is not None, "file", f"{self.name} without {told}", "it, as before")
            batch.validate(full=True)  # what a length in a damaged file points to may not be ours
        for start in range(0, batch.num_rows, rows):
            yield with_vectors_joined(batch.slice(start, rows), self._columns, self.groups)

    def close(self) -> None:
        self._source.close()

    def _open(self, fields: list[int] | None) -> None:
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
        self._source.seek(0)
        self._next = 0
        open_it = pa.ipc.open_file if self._indexed else pa.ipc.open_stream
        self._reader = open_it(self._source, options=options)

    def _following(self) -> Any:
        """The next batch of a stream; None at its end."""
        with readable(self.name, f"{self.group_name} {self._next}"):
            try:
                batch = self._reader.read_next_batch()
            except StopIteration:
                return None
        self._next += 1
        return batch


class _LinesFile(ABC):
    """Text of which every line is a row by itself. A group is the lines that begin in a MiB.

    Arrow's own readers of streams cannot begin in the middle, as whoever measures the last leaf must: a block is
    found by its number, and parsed alone. So a row may not go over several lines.

    It has no checksums and no end: of a file that was cut short between two lines the rows that are left are read.
    """

    group_name = "block"
    name: str
    schema: pa.Schema
    groups: Groups
    _blank: bytes | None = b"\r"  # what a line that is no row may hold
    _columns: Sequence[str] | None
    _types: dict[str, Any]
    _source: Any
    _size: int
    _first: int  # where the first row begins

    @abstractmethod
    def _parse(self, text: bytes, types: dict[str, Any]) -> Any:
        """Some whole lines as an Arrow table, or a ValueError."""

    def _rows(self, text: bytes) -> list[tuple[int, bytes]]:
        """The lines that are rows, each with its number from 0 on."""
        return lines_of(text, self._blank)

    @abstractmethod
    def _wrong(self, lines: Sequence[bytes], types: dict[str, Any]) -> tuple[int, str]:
        """The position of the first line that cannot be read, where not all can, and what it holds."""

    def counts(self, label: str) -> list[int]:
        with readable(self.name):
            found = [len(self._rows(self._text(group)[1])) for group in range(-(-self._size // _BLOCK))]
        require(any(found), "file", f"{self.name}, which ends after its heading", "rows")
        return found

    def batches(self, group: int, rows: int) -> Iterator[Any]:
        with readable(self.name, f"{self.group_name} {group}"):
            start, text = self._text(group)
            stored = stored_names(self._columns, self.groups)
            types = {name: self._types[name] for name in (self._types if stored is None else stored)}
            found = self._parsed(start, text, types) if self._rows(text) else None
        for batch in () if found is None else found.to_batches(rows):
            yield with_vectors_joined(batch, self._columns, self.groups)

    def close(self) -> None:
        self._source.close()

    def _first_rows(self) -> bytes:
        """The lines that say what the columns are."""
        text, start = b"", self._first
        while len(self._rows(text)) < _FIRST_ROWS and start < self._size:
            line = self._line(start)
            text, start = text + line, start + len(line)
        return text

    def _text(self, group: int) -> tuple[int, bytes]:
        """Where the first line begins that begins in a block, and all that do; empty where none does."""
        start, end = max(group * _BLOCK, self._first), min((group + 1) * _BLOCK, self._size)
        if start >= end:
            return start, b""
        if start > self._first:
            before = self._read(start - 1, end - start)  # a line after its last byte but one begins here, too
            found = before.find(b"\n")
            if found < 0:
                return start, b""
            return start + found, before[found + 1 :] + self._line(end - 1)
        return start, self._read(start, end - 1 - start) + self._line(end - 1)

    def _line(self, start: int) -> bytes:
        """The rest of a line, with its end."""
        read, size = list[bytes](), 0
        while piece := self._read(start + size, max(2**12, size)):
            found = piece.find(b"\n")
            read.append(piece if found < 0 else piece[: found + 1])
            if found >= 0:
                break
            size += len(piece)
            require(size < _LINE, "file", f"{self.name} with a line of more than 64 MiB", "a row a line")
        return b"".join(read)

    def _read(self, start: int, count: int) -> bytes:
        self._source.seek(start)
        return bytes(self._source.read(count))

    def _parsed(self, start: int, text: bytes, types: dict[str, Any]) -> Any:
        """The columns of the lines from `start` on; an error names the first that cannot be read."""
        try:
            return self._parse(text, types)
        except ValueError:
            rows = self._rows(text)
            place, told = self._wrong([line for _, line in rows], types)
        before = sum(self._read(at, min(_BLOCK, start - at)).count(b"\n") for at in range(0, start, _BLOCK))
        raise ArgumentError(f"file: got {self.name}, line {before + rows[place][0] + 1}, {told}")


class _TextFile(_LinesFile):
    """CSV, or TSV by its suffix: headings, then a row a line, in UTF-8.

    Of a file that was cut short within its last number another number is read.
    """

    def __init__(self, location: Location, name: str, columns: Sequence[str] | None) -> None:
        self.name, self._columns = name, columns
        self._delimiter = "\t" if name.lower().endswith(".tsv") else ","
        with readable(name):
            self._source = location.open(name)
            self._size = self._source.size()
            heading = self._line(0)
            self._first = len(heading)  # where the first row begins
            self._names = self._headings(heading)
            self._width: int | None = None
            kinds, self._width = self._kinds()
            schema, self.groups = with_vectors(pa.schema(list(kinds.items())))
            numbers = {one for group in self.groups.values() for one in group}
            self._types = {
                column: WORDS if kind == NUMBERS and column not in numbers and not _is_loss(column) else kind
                for column, kind in kinds.items()
            }
            self.schema = pa.schema(
                [pa.field(field.name, self._types.get(field.name, field.type)) for field in schema]
            )

    def _parse(self, text: bytes, types: dict[str, Any]) -> Any:
        return parsed(text, self._names, types, delimiter=self._delimiter, width=self._width)

    def _wrong(self, lines: Sequence[bytes], types: dict[str, Any]) -> tuple[int, str]:
        place = first_wrong(lines, lambda some: self._parse(some, types), self._delimiter)
        how: dict[str, Any] = {"delimiter": self._delimiter, "width": self._width}
        return place, what_is_wrong(lines[place], self._names, types, **how)

    def _headings(self, line: bytes) -> list[str]:
        told = f"{self.name}, line 1,"
        expected = "headings, such as label,x0,x1"
        require(not line.startswith((b"\xff\xfe", b"\xfe\xff")), "file", f"{told} in UTF-16", "UTF-8")
        line = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
        require(bool(line.strip()), "file", f"{told} which is empty", expected)
        require(b"\0" not in line and b"\r" not in line, "file", f"{told} which is no line of text", expected)
        require(not left_open(line, self._delimiter), "file", f"{told} with an open quotation mark", expected)
        try:
            line.decode()
        except UnicodeDecodeError:
            raise ArgumentError(f"file: got {told} which is not UTF-8; expected {expected}") from None
        names = [word.strip() for word in cells(line, self._delimiter)]
        other = next((mark for mark in ";\t," if mark in names[0]), "") if len(names) == 1 else ""
        wanted = "commas in .csv, tabs in .tsv, and points in numbers"
        require(not other, "file", f"{told} with {other!r} between headings", wanted)
        names = [word or f"({place + 1})" for place, word in enumerate(names)]
        twice = next((word for place, word in enumerate(names) if word in names[:place]), None)
        require(twice is None, "file", f"{told} with the column {twice!r} twice", "each once")
        numbers = [word for word in names if re.fullmatch(r"[-+]?[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?", word)]
        require(not numbers, "file", f"{told} with {', '.join(numbers[:2])} among its headings", expected)
        return names

    def _kinds(self) -> tuple[dict[str, Any], int | None]:
        """What the columns are, by the first rows."""
        text = self._first_rows()
        if not self._rows(text):
            return dict.fromkeys(self._names, NUMBERS), None
        return kinds_of(self._parsed(self._first, text, dict.fromkeys(self._names, pa.binary())))


class _JsonFile(_LinesFile):
    """JSON Lines: an object a line. A key holds what most of the first rows have; one that is absent is empty."""

    _blank = None

    def __init__(self, location: Location, name: str, columns: Sequence[str] | None) -> None:
        self.name, self._columns = name, columns
        with readable(name):
            self._source = location.open(name)
            self._size = self._source.size()
            self._first = 3 * (self._read(0, 3) == b"\xef\xbb\xbf")
            lines = [line for _, line in self._rows(self._first_rows())]
            require(bool(lines), "file", f"{name}, which is empty", "a JSON object a line")
            rows = json_lines.objects_of(lines)
            shown = lines[0][:40].decode(errors="replace") if lines else ""
            require(bool(rows), "file", f"{name}, line 1, with {shown!r}", "a JSON object a line")
            self._types = json_lines.kinds_of(rows)
            self.schema, self.groups = with_vectors(pa.schema(list(self._types.items())))

    def _parse(self, text: bytes, types: dict[str, Any]) -> Any:
        return json_lines.parsed(text, types)

    def _wrong(self, lines: Sequence[bytes], types: dict[str, Any]) -> tuple[int, str]:
        place = first_wrong(lines, lambda some: self._parse(some, types), None)
        return place, json_lines.what_is_wrong(lines[place], types)


def _is_loss(column: str) -> bool:
    return column in ALIASES["losses"]


_FILES: dict[Format, Callable[[Location, str, Sequence[str] | None], _File]] = {
    "parquet": _ParquetFile,
    "arrow": _IpcFile,
    "text": _TextFile,
    "json": _JsonFile,
}
