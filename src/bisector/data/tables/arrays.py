"""Arrays of numpy or PyTorch in one file or two, read a slice at a time without unpacking more than that."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZipFile

import numpy as np

from bisector.data.tables.columns import (
    ALIASES,
    Array,
    as_rows,
    distinct_names,
    one_each,
    row_shape,
    texts,
)
from bisector.data.tables.reader import ROWS, Part, Piece, TableReader, parts_of
from bisector.data.tables.tensor_files import (
    TENSORS,
    SlicedTensor,
    check_tensors,
    refused_pickle,
    tensors_in,
)
from bisector.errors import ArgumentError, require
from bisector.files import reading

NOTES = ("adjusted", "head")
"""What `bisector adjust` writes into an .npz beside the columns."""

_KEYS = ("embeddings", "labels", "predictions", "losses", "scores", "names", "splits")


Held = TypeVar("Held", Array, "Array | SlicedTensor")


class ColumnOrderError(ArgumentError):
    """An array lies column by column: its rows cannot be read one after another, only all at once."""


@dataclass(frozen=True)
class ArrayTable(TableReader):
    """A table in an .npz, in an .npy of vectors and one of labels, or in a file of tensors.

    An archive has a checksum for each array, which is known to be right or wrong when the last row is read; an .npy
    has none. Tensors are mapped into memory.

    Args:
        members: for every key the file and, of an archive, the array in it.
        at_once: whether an array of an archive that lies column by column is read whole, else refused.
    """

    members: Mapping[str, tuple[str, str]]
    at_once: bool = False

    def pieces(self, parts: Iterable[Part], keys: Sequence[str]) -> Iterator[Piece]:
        """See `TableReader`."""
        wanted = [key for key in keys if key in self.members]
        size = self.piece_rows(wanted)
        opened = {key: _Rows(*self.members[key], at_once=self.at_once) for key in wanted}
        try:
            for part in parts:
                for start in range(part.first, part.first + part.rows, size):
                    count = min(size, part.first + part.rows - start)
                    columns = {
                        key: rows.read(start, count, f"slice {part.group}") for key, rows in opened.items()
                    }
                    for key in set(columns) & set(self.widths):
                        columns[key] = as_rows(key, columns[key])
                    yield Piece(part, start, columns, count)
        finally:
            for rows in opened.values():
                rows.close()


def array_files(path: str | os.PathLike[str]) -> tuple[Path] | tuple[Path, Path] | None:
    """The .npz or file of tensors, or the .npy of vectors and that of labels, that a path means; None for none.

    >>> [file.name for file in array_files("train/X.npy,train/y.npy")]
    ['X.npy', 'y.npy']
    """
    text = os.fspath(path)
    pair = text.split(",")
    if len(pair) == 2 and all(part.strip().lower().endswith(".npy") for part in pair):
        return Path(pair[0].strip()), Path(pair[1].strip())
    where = Path(text)
    if "://" in text or (where.is_dir() and not (where / "embeddings.npy").is_file()):
        return None
    if where.is_dir():
        return where / "embeddings.npy", where / "labels.npy"
    suffix = where.suffix.lower()
    if suffix in {".npz", ".npy", *TENSORS} and where.is_file():
        return (where, where.with_name("labels.npy")) if suffix == ".npy" else (where,)
    return None


def open_arrays(
    files: tuple[Path] | tuple[Path, Path],
    embedding: str | None,
    label: str | None,
    *,
    vectors_needed: bool = True,
    at_once: bool = False,
) -> ArrayTable:
    """Open an archive, a file of tensors, or a pair of .npy files.

    Args:
        files: what `array_files` found.
        embedding: the array of vectors in an archive, where it is not the usual one.
        label: the array of labels.
        vectors_needed: whether an archive of scores or predictions without vectors is refused.
        at_once: see `ArrayTable`.

    Raises:
        ArgumentError: a file is not there or cannot be read, or an array that is needed is not in it.
        ColumnOrderError: an array lies column by column.
    """
    class_names, found = None, list[str]()
    if len(files) == 1:
        found, class_names = _found(files[0])
        members = _members(files[0], found, embedding, label, vectors_needed=vectors_needed)
    else:
        for path in files:
            there = path.is_file()
            require(there, "file", f"{path}, which is not there", "a pair of .npy files, vectors and labels")
        members = {key: (str(file), "") for key, file in zip(("embeddings", "labels"), files, strict=True)}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, Any] = {}
    for key, member in members.items():
        rows = _Rows(*member, at_once=at_once)
        shapes[key], dtypes[key] = rows.shape, rows.dtype
        rows.close()
    widths, first = {}, next(iter(shapes))  # the vectors, else the labels
    if first == "embeddings":
        widths["embeddings"] = row_shape("embeddings", shapes["embeddings"])[1]
        kind = dtypes["embeddings"]
        require(kind.kind in "fiu", "embeddings", f"type {kind}", "real numbers")
    rows_there = shapes[first][0] if shapes[first] else 0
    for key, shape in shapes.items():
        same = shape[:1] == (rows_there,)
        require(same, key, f"shape {shape}", f"{rows_there} rows, as the {first}")
    if "scores" in shapes:
        name, kind = members["scores"][1], dtypes["scores"]
        widths["scores"] = row_shape(name, shapes["scores"])[1]
        require(kind.kind in "biuf", name, f"values of type {kind}", "numbers")
    full, rest = divmod(rows_there, ROWS)
    known = {*ALIASES["class_names"], *NOTES, *(member for _, member in members.values())}
    stats = [(file, Path(file).stat()) for file in sorted({file for file, _ in members.values()})]
    return ArrayTable(
        columns={key: member for key, (_, member) in members.items()},
        widths=widths,
        parts=tuple(parts_of(members[first][0], [ROWS] * full + [rest] * (rest > 0), 0)),
        stamps=tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats),
        class_names=class_names,
        notes={},
        file_splits={},
        unused=tuple(name for name in found if name not in known),
        class_columns={},
        members=members,
        at_once=at_once,
    )


def load_array(path: Path) -> Array:
    """The array of an .npy file; nothing is unpickled.

    Raises:
        ArgumentError: the file is no such thing.
        OSError: it cannot be opened.
    """
    with reading(f"file: got {path}; expected a readable {path.suffix.lower()} file"):
        loaded: Any = _load(path)
        if isinstance(loaded, np.ndarray):
            return loaded
        loaded.close()
    raise ArgumentError(f"file: got {path}, an archive of arrays; expected one array, or the suffix .npz")


def load_archive(path: Path, names: Sequence[str] | None = None) -> dict[str, Array]:
    """The arrays of an .npz file, those of these names or all; nothing is unpickled.

    Raises:
        ArgumentError: the file is no such thing.
        OSError: it cannot be opened.
    """
    with reading(f"file: got {path}; expected a readable {path.suffix.lower()} file"):
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                return {name: np.asarray(loaded[name]) for name in names or loaded.files}
    raise ArgumentError(f"file: got {path}, a single array; expected an archive, or the suffix .npy")


def find(arrays: Mapping[str, Held], what: str) -> tuple[str, Held | None]:
    """The first array that has an alias of `what`, with its name; None where there is none."""
    return next(((name, arrays[name]) for name in ALIASES[what] if name in arrays), (what, None))


def class_names_in(arrays: Mapping[str, Array]) -> tuple[str, ...] | None:
    """The names of the classes, where there are any.

    Raises:
        ArgumentError: they are no (C,) vector of words.
    """
    names = find(arrays, "class_names")[1]
    if names is None:
        return None
    return distinct_names(texts("class_names", one_each("class_names", names)).tolist())


def require_member(path: Path, found: Iterable[str], names: Sequence[str]) -> str:
    """The first of these names that an archive has.

    Raises:
        ArgumentError: it has none.
    """
    found = list(found)
    member = next((name for name in names if name in found), None)
    if member is None:
        raise ArgumentError(
            f"file: {path} holds {', '.join(found) or 'nothing'}; expected one of {', '.join(names)}"
        )
    return member


def _found(path: Path) -> tuple[list[str], tuple[str, ...] | None]:
    """The names of the arrays in a file, and those of the classes where it has them."""
    if path.suffix.lower() in TENSORS:
        check_tensors(path)
        arrays, noted = tensors_in(path)
        name, stored = find(arrays, "class_names")
        if stored is None:
            return list(arrays), None if noted is None else distinct_names(noted)
        require(isinstance(stored, np.ndarray), name, "a tensor", "names, a list of texts")
        return list(arrays), class_names_in({name: np.asarray(stored)})
    try:
        with ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except Exception as error:  # what is damaged raises anything
        load_archive(path)  # says so where it is a single array
        raise _unreadable(str(path), error) from None
    classes = next((name for name in ALIASES["class_names"] if name in found), None)
    return found, None if classes is None else class_names_in(load_archive(path, [classes]))


def _members(
    path: Path, found: Sequence[str], embedding: str | None, label: str | None, *, vectors_needed: bool
) -> dict[str, tuple[str, str]]:
    """Where in an archive every column is."""
    said = {*ALIASES["scores"], *ALIASES["predictions"]} & set(found)
    bare = not vectors_needed and embedding is None and said and not set(ALIASES["embeddings"]) & set(found)
    needed = {"labels"} if bare else {"embeddings", "labels"}
    members = {}
    for key, named in {**dict.fromkeys(_KEYS), "embeddings": embedding, "labels": label}.items():
        names = [named] if named else ALIASES[key]
        if key in needed or set(names) & set(found):
            members[key] = (str(path), require_member(path, found, names))
    return members


class _Rows:
    """The rows of one stored array; those that follow the last read are at hand, others are gone to."""

    def __init__(self, file: str, member: str, *, at_once: bool) -> None:
        self._told = f"{file}, {member!r}" if member else file
        self._file, self._member = file, member
        self._whole: Any = None  # in memory, or mapped
        self._zip: ZipFile | None = None
        if not member:
            self._whole = _map(file)
        elif Path(file).suffix.lower() in TENSORS:
            self._whole = tensors_in(Path(file))[0][member]
        else:
            try:
                self._open()
            except ColumnOrderError:
                if not at_once:
                    raise
                self._whole = load_archive(Path(file), [member])[member]
        if self._whole is not None:
            self.shape, self.dtype = self._whole.shape, self._whole.dtype

    def read(self, first: int, count: int, where: str) -> Array:
        """So many rows from this one."""
        if self._whole is not None:
            return np.array(self._whole[first : first + count])
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
            raise _unreadable(self._told, error) from None
        if self.dtype.hasobject:
            raise refused_pickle(self._file)
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


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        if "Object arrays" in str(error):
            raise refused_pickle(path) from None
        raise


def _map(file: str) -> Array:
    try:
        found: Any = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception:
        return load_array(Path(file))  # says what is wrong; an array of no rows cannot be mapped
    if not isinstance(found, np.ndarray):
        return load_array(Path(file))
    return found


def _unreadable(told: str, error: BaseException) -> ArgumentError:
    if isinstance(error, ArgumentError):
        return error
    return ArgumentError(
        f"file: {told}, cannot be read: {' '.join(str(error).split()) or type(error).__name__}"
    )
