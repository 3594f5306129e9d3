"""One or several Parquet or Arrow files with one schema, as one data set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bisector.data.arrow_columns import find_columns, notes_of, require_same_columns, to_array
from bisector.data.embedding_columns import class_names_of, distinct_names
from bisector.data.stored.gathered import Gathered
from bisector.data.stored.ipc import ArrowReader
from bisector.data.stored.listing import Format, Listing
from bisector.data.stored.location import Location
from bisector.data.stored.parquet import ParquetReader
from bisector.data.stored.part import About, Part, Piece, parts_of, piece_rows
from bisector.data.stored.reading import readable, require_rows
from bisector.errors import ArgumentError

READERS: Mapping[Format, Any] = {"parquet": ParquetReader, "arrow": ArrowReader}
_FIND = 64  # rows read at once where a vector is looked for
_READ = 2**20  # bytes of vectors decoded at once: what Arrow allocates stays small, and is used again


@dataclass(frozen=True)
class Tables:
    """A `Source` of files that pyarrow reads.

    Args:
        location: of the data set.
        format: of the files.
        columns: the name of each column, by what it holds.
        widths: numbers in a row, of the columns of vectors.
        splits: the split of each file, where their names say it.
        about: the data set.
        parts: of the files.
        stamps: of the files.
    """

    location: Location
    format: Format
    columns: Mapping[str, str]
    widths: Mapping[str, int]
    splits: Mapping[str, str]
    about: About
    parts: tuple[Part, ...]
    stamps: tuple[tuple[str, int, int], ...]

    def pieces(self, parts: Iterable[Part], keys: Sequence[str]) -> Iterator[Piece]:
        """The rows of these parts, in pieces; see `Source`."""
        wanted = [key for key in keys if key in self.columns]
        names = list(dict.fromkeys(self.columns[key] for key in wanted))
        width = max((self.widths.get(key, 1) for key in wanted), default=1)
        size = piece_rows(width)
        step = min(size, max(1, _READ // (4 * width)))
        reader: Any = None
        try:
            for part in parts:
                if reader is None or reader.file != part.file:
                    if reader is not None:
                        reader.close()
                    reader = READERS[self.format](self.location, part.file, names)
                gathered = Gathered(self.columns, self.widths, part, wanted, min(size, part.rows))
                for group in range(part.group, part.group + part.groups):
                    where = f"{reader.group_name} {group}"
                    for batch in reader.batches(group, step):
                        with readable(part.file, where):
                            full = list(gathered.add(batch, where))
                        yield from (self._with_split(piece) for piece in full)
                where = f"{reader.group_name}s {part.group} to {part.group + part.groups - 1}"
                require_rows(
                    part.file, where, gathered.total, part.rows
                )  # it may have changed since it was opened
                yield from (self._with_split(piece) for piece in gathered.rest())
        finally:
            if reader is not None:
                reader.close()

    def _with_split(self, piece: Piece) -> Piece:
        split = self.splits.get(piece.part.file)
        if split is not None:
            piece.columns["splits"] = np.full(piece.rows, split)
        return piece


def open_tables(
    location: Location,
    listing: Listing,
    embedding: str | None,
    label: str | None,
    *,
    vectors_needed: bool = True,
) -> Tables:
    """Find the columns, the parts and what else can be known without reading the vectors.

    Args:
        location: of the data set.
        listing: of its files.
        embedding: the column of vectors, where it is not the usual one.
        label: the column of labels.
        vectors_needed: whether a table of scores without vectors is refused; else its D is 0.

    Raises:
        ArgumentError: a file cannot be read, or they do not fit each other.
    """
    reader, files = READERS[listing.format], listing.files
    parts, first = list[Part](), 0
    columns: dict[str, str] = {}
    schema: Any = None
    for file in files:
        opened = reader(location, file)
        try:
            schema = schema or opened.schema
            columns = columns or find_columns(schema, embedding, label, file, vectors_needed=vectors_needed)
            require_same_columns(schema, opened.schema, list(columns.values()), file=file, like=files[0])
            parquet = listing.format == "parquet"
            counts = opened.counts() if parquet else _counts(location, file, columns["labels"])
        finally:
            opened.close()
        parts.extend(parts_of(file, counts, first))
        first += sum(counts)
    splits = {} if "splits" in columns else listing.splits()
    widths: dict[str, int] = {
        key: _width(location, files, reader, columns[key])
        for key in ("embeddings", "scores")
        if key in columns
    }
    if not widths.get("scores"):
        columns.pop("scores", None)  # not one row has any
    dim = widths.get("embeddings", 0)
    if not dim and "embeddings" in columns:
        raise ArgumentError("file: got no row that has a label and a finite vector; expected at least one")
    notes = notes_of(schema.metadata, files[0])
    names = (
        notes.get("class_names")
        or class_names_of(schema.metadata, columns["labels"])
        or listing.class_names.get(columns["labels"])
    )
    about = About(
        dim=dim,
        columns=columns,
        keys=frozenset(columns) | ({"splits"} if splits else set()),
        num_scores=widths["scores"] if "scores" in columns else None,
        scores_name=columns.get("scores", "scores"),
        class_names=distinct_names(names) if names else None,
        notes=notes,
    )
    known = {key: width for key, width in widths.items() if key in columns}
    stamps = location.stamps(files)
    return Tables(location, listing.format, columns, known, splits, about, tuple(parts), stamps)


def _counts(location: Location, file: str, label: str) -> list[int]:
    """Rows of the record batches: nothing but the labels is decoded."""
    reader = ArrowReader(location, file, [label], counting=True)
    try:
        return reader.counts()
    finally:
        reader.close()


def _width(location: Location, files: Sequence[str], reader: Any, name: str) -> int:
    """Numbers in a row, of the first row that is not missing; 0 where there is none."""
    for file in files:
        opened = reader(location, file, [name])
        try:
            for group, rows in enumerate(opened.counts()):
                for batch in opened.batches(group, _FIND) if rows else ():
                    chunk = batch.column(name)
                    if chunk.null_count < len(chunk):
                        with readable(file, f"{reader.group_name} {group}"):
                            return int(to_array(chunk.drop_null().slice(0, 1), name).shape[1])
        finally:
            opened.close()
    return 0
