"""Arrays of numpy, an archive or a pair of files, a slice at a time and without unpacking more than that."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from bisector.data.embedding_arrays import load_archive, load_array
from bisector.data.embedding_columns import (
    ALIASES,
    Array,
    as_rows,
    distinct_names,
    one_each,
    row_shape,
    texts,
)
from bisector.data.stored.part import ROWS, About, Part, Piece, parts_of, piece_rows
from bisector.errors import ArgumentError, require

_KEYS = ("embeddings", "labels", "predictions", "losses", "scores", "names", "splits")


@dataclass(frozen=True)
class Arrays:
    """A `Source` of .npz or .npy.

    An archive has a checksum for each array, which is known to be right or wrong when the last row is read; an .npy
    has none.

    Args:
        members: for every key the file and, of an archive, the array in it.
        about: the data set.
        parts: slices of 65,536 rows.
        stamps: of the files.
    """

    members: Mapping[str, tuple[str, str]]
    about: About
    parts: tuple[Part, ...]
    stamps: tuple[tuple[str, int, int], ...]

    def pieces(self, parts: Iterable[Part], keys: Sequence[str]) -> Iterator[Piece]:
        """The rows of these parts, in pieces; see `Source`."""
        wanted = [key for key in keys if key in self.members]
        widths = {"embeddings": self.about.dim, "scores": self.about.num_scores or 1}
        size = piece_rows(max((widths.get(key, 1) for key in wanted), default=1))
        opened = {key: _Rows(*self.members[key]) for key in wanted}
        try:
            for part in parts:
                for start in range(part.first, part.first + part.rows, size):
                    count = min(size, part.first + part.rows - start)
                    columns = {
                        key: rows.read(start, count, f"slice {part.group}") for key, rows in opened.items()
                    }
                    for key in set(columns) & set(widths):
                        columns[key] = as_rows(key, columns[key])
                    yield Piece(part, start, columns, count)
        finally:
            for rows in opened.values():
                rows.close()


class ColumnOrderError(ArgumentError):
    """An array lies column by column: its rows cannot be read one after another, only all at once."""


class _Rows:
    """The rows of one stored array; those that follow the last read are at hand, others are gone to."""

    def __init__(self, file: str, member: str) -> None:
        self._told = f"{file}, {member!r}" if member else file
        self._file, self._member = file, member
        self._mapped: Any = None
        self._zip: ZipFile | None = None
        if not member:
            self._mapped = _map(file)
            self.shape, self.dtype = self._mapped.shape, self._mapped.dtype
        else:
            self._open()

    def read(self, first: int, count: int, where: str) -> Array:
        """So many rows from this one."""
        if self._mapped is not None:
            return np.array(self._mapped[first : first + count])
        try:
            if first < self._next:
                self.close()
                self._open()
            while self._next < first:
                self._bytes(min(first - self._next, ROWS))
            return np.frombuffer(self._bytes(count), dtype=self.dtype).reshape(count, *self.shape[1:])
        except Exception as error:  # what is damaged raises anything
            raise _unreadable(f"{self._told}, {where}", error) from None

    def close(self) -> None:
        """Give the file back."""
        if self._zip is not None:
            self._stream.close()
            self._zip.close()

    def _open(self) -> None:
        try:
            self._zip = ZipFile(self._file)
            self._stream = self._zip.open(self._member + ".npy")
            version = np.lib.format.read_magic(self._stream)
            require(version in {(1, 0), (2, 0)}, "file", self._told, "an array of numbers or words")
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            self.shape, fortran, self.dtype = header(self._stream)
        except Exception as error:  # what is damaged raises anything
            if isinstance(error, ArgumentError):
                raise
            raise _unreadable(self._told, error) from None
        require(not self.dtype.hasobject, "file", f"{self._told} of Python objects", "numbers or words")
        if fortran and len(self.shape) > 1:
            raise ColumnOrderError(
                f"file: got {self._told} stored column by column; expected row by row: --engine memory reads the "
                "whole file at once, and numpy.ascontiguousarray turns it"
            )
        self._next = 0

    def _bytes(self, rows: int) -> bytes:
        size = rows * int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        found = self._stream.read(size)
        require(len(found) == size, "file", f"{self._told}, cut short", f"{self.shape[0]} rows")
        self._next += rows
        if self._next == self.shape[0]:
            self._stream.read(1)  # the end, where the checksum is compared
        return found


def open_npz(path: Path, embedding: str | None, label: str | None) -> Arrays:
    """The arrays of an archive.

    Raises:
        ArgumentError: it cannot be read, or one that is needed is not in it.
    """
    try:
        with ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except Exception as error:  # what is damaged raises anything
        load_archive(path)  # says so where it is a single array
        raise _unreadable(str(path), error) from None
    wanted = {"embeddings": embedding, "labels": label}
    members = {}
    for key in _KEYS:
        names = [name] if (name := wanted.get(key)) else ALIASES[key]
        member = next((name for name in names if name in found), None)
        needed = f"{path} holds {', '.join(found) or 'nothing'}"
        require(member is not None or key not in wanted, "file", needed, f"one of {', '.join(names)}")
        if member is not None:
            members[key] = (str(path), member)
    classes = next((name for name in ALIASES["class_names"] if name in found), None)
    return _arrays(members, None if classes is None else _class_names(path, classes))


def open_pair(embeddings: Path, labels: Path) -> Arrays:
    """A pair of .npy files.

    Raises:
        ArgumentError: one is not there or cannot be read.
    """
    for path in (embeddings, labels):
        there = path.is_file()
        require(there, "file", f"{path}, which is not there", "a pair of .npy files, vectors and labels")
    return _arrays({"embeddings": (str(embeddings), ""), "labels": (str(labels), "")}, None)


def _arrays(members: dict[str, tuple[str, str]], class_names: tuple[str, ...] | None) -> Arrays:
    shapes, dtypes = {}, {}
    for key, member in members.items():
        rows = _Rows(*member)
        shapes[key], dtypes[key] = rows.shape, rows.dtype
        rows.close()
    vectors = row_shape("embeddings", shapes["embeddings"])
    require(dtypes["embeddings"].kind in "fiu", "embeddings", f"type {dtypes['embeddings']}", "real numbers")
    for key, shape in shapes.items():
        same = shape[:1] == vectors[:1]
        require(same, key, f"shape {shape}", f"{vectors[0]} rows, as the embeddings")
    scores = members.get("scores", ("", "scores"))[1]
    full, rest = divmod(vectors[0], ROWS)
    parts = parts_of(members["embeddings"][0], [ROWS] * full + [rest] * (rest > 0), 0)
    files = sorted({file for file, _ in members.values()})
    about = About(
        dim=vectors[1],
        columns={key: member for key, (_, member) in members.items()},
        keys=frozenset(members),
        num_scores=row_shape(scores, shapes["scores"])[1] if "scores" in shapes else None,
        scores_name=scores,
        class_names=class_names,
        notes={},
    )
    stats = [(file, Path(file).stat()) for file in files]
    return Arrays(
        members, about, tuple(parts), tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
    )


def _map(file: str) -> Array:
    try:
        found: Any = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception:
        return load_array(Path(file))  # says what is wrong; an array of no rows cannot be mapped
    if not isinstance(found, np.ndarray):
        return load_array(Path(file))
    return found


def _class_names(path: Path, member: str) -> tuple[str, ...]:
    rows = _Rows(str(path), member)
    try:
        names = one_each(
            "class_names", rows.read(0, rows.shape[0], "all") if rows.shape else np.empty(rows.shape)
        )
        return distinct_names(texts("class_names", names).tolist())
    finally:
        rows.close()


def _unreadable(told: str, error: BaseException) -> ArgumentError:
    if isinstance(error, ArgumentError):
        return error
    return ArgumentError(
        f"file: {told}, cannot be read: {' '.join(str(error).split()) or type(error).__name__}"
    )
