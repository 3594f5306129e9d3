"""Embeddings as Parquet: found by their type when read, streamed when written."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor

from bisector._version import __version__
from bisector.data.embedding_columns import ALIASES, Array, Columns, class_names_of, split_of_file
from bisector.errors import ArgumentError, missing_extra, require

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError:
    raise missing_extra("pyarrow", "measure") from None


def read_parquet(paths: Sequence[Path], embedding: str | None, label: str | None) -> Columns:
    """Read the columns of one or several Parquet files with one schema.

    Args:
        paths: the files, in order.
        embedding: the column of vectors; the only one, or the one with a usual name, if None.
        label: the column of labels; the one with a usual name if None.

    Raises:
        ArgumentError: if a file cannot be read, or a column is not there or not what it should be.
    """
    files = [_open(path) for path in paths]
    schema = files[0].schema_arrow
    columns = {
        "embeddings": vector_column(schema, embedding, file=paths[0]),
        "labels": _named(schema, label, "labels", "label", paths[0]),
        **{
            key: _first(schema, ALIASES[key])
            for key in ("predictions", "losses", "scores", "names", "splits")
        },
    }
    wanted = list(dict.fromkeys(name for name in columns.values() if name is not None))
    tables = []
    for path, file in zip(paths, files, strict=True):
        other = file.schema_arrow
        for name in wanted:
            require(
                name in other.names, "file", f"{path} without the column {name!r}", f"those of {paths[0]}"
            )
            sorts = {_sort(each.field(name).type) for each in (schema, other)}
            same = len(sorts - {"empty"}) <= 1
            got = f"{path} with {name!r} of type {other.field(name).type}"
            require(same, "file", got, f"{schema.field(name).type}, as in {paths[0]}")
        try:
            tables.append(file.read(columns=wanted))
        except (pa.ArrowException, OSError) as error:
            raise ArgumentError(f"file: {path} cannot be read as Parquet: {error}") from None

    def column(key: str) -> Array | None:
        name = columns[key]
        if name is None:
            return None
        parts = [
            (path, chunk)
            for path, table in zip(paths, tables, strict=True)
            for chunk in table.column(name).chunks
        ]
        filled = [(path, _array(chunk, name)) for path, chunk in parts if chunk.null_count < len(chunk)]
        if not filled:
            return (
                None
                if key == "scores"
                else _array(pa.nulls(sum(map(len, tables)), schema.field(name).type), name)
            )
        shape = filled[0][1].shape[1:]
        for path, array in filled:
            told = f"{path} with {name!r} of {array.shape[-1]} numbers a row"
            require(array.shape[1:] == shape, "file", told, f"{shape[-1:]}, as in {filled[0][0]}")
        arrays = iter(filled)
        return np.concatenate([
            next(arrays)[1] if chunk.null_count < len(chunk) else _absent(len(chunk), shape) for _, chunk in parts
        ])  # fmt: skip

    embeddings, labels, splits = column("embeddings"), column("labels"), column("splits")
    assert embeddings is not None
    assert labels is not None
    by_file = [split_of_file(path.stem) for path in paths]
    if splits is None and len(set(by_file)) > 1 and None not in by_file:
        splits = np.repeat(np.array(by_file, dtype=str), [len(table) for table in tables])
    notes = _notes(schema.metadata, paths[0])
    named = notes.get("class_names") or class_names_of(schema.metadata, str(columns["labels"]))
    return Columns(
        embeddings=embeddings,
        labels=labels,
        predictions=column("predictions"),
        losses=column("losses"),
        scores=column("scores"),
        names=column("names"),
        splits=splits,
        scores_name=columns["scores"] or "scores",
        class_names=tuple(named) if named else None,
        notes=notes,
    )


def has_vectors(path: Path) -> bool:
    """Whether a Parquet file has a column of embeddings."""
    try:
        vector_column(_open(path).schema_arrow)
    except ArgumentError:
        return False
    return True


def vector_column(schema: "pa.Schema", wanted: str | None = None, *, file: Path | str = "file") -> str:
    """The name of the column of embeddings.

    Args:
        schema: of the file.
        wanted: the name that it must have.
        file: for the message.

    Raises:
        ArgumentError: if there is none, or more than one and none has a usual name.
    """
    vectors = [field.name for field in schema if _is_vector(field.type)]
    if wanted is not None:
        require(wanted in vectors, "embedding column", f"{wanted!r} in {file}", _one_of(vectors))
        return wanted
    for name in ALIASES["embeddings"]:
        if name in vectors:
            return name
    others = [name for name in vectors if name not in ALIASES["scores"]]
    require(len(others) == 1, "file", f"{file} with {len(others)} columns of vectors", _one_of(others))
    return str(others[0])


class EmbeddingWriter:
    """Writes the table of embeddings batch by batch; the file appears when all of it is there.

    A context manager: what is written goes to a temporary file beside `path`, which takes its place at the end, or
    goes away if anything was raised.

    Args:
        path: of the Parquet file.
        class_names: of the classes 0 to C - 1.
        model: where the embeddings come from.
        data: what was embedded.
        left_out: one line for each thing that was found and not embedded.
        adjusted: what was done to the scores after the model.
        settings: options of the command that made the table, by name with underscores; those that are None are not
            written.
    """

    def __init__(
        self,
        path: Path,
        *,
        class_names: Sequence[str],
        model: str = "",
        data: str = "",
        left_out: Sequence[str] = (),
        adjusted: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = path
        self._notes = {
            "class_names": list(class_names),
            "model": model,
            "data": data,
            "left_out": list(left_out),
            "version": __version__,
            **({"adjusted": adjusted} if adjusted else {}),
            **({"settings": kept} if (kept := _given(settings)) else {}),
        }
        self._writer: Any = None

    def __enter__(self) -> Self:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{self._path.name}-", suffix=".part", dir=self._path.parent
        )
        os.close(descriptor)
        self._partial = Path(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        written = self._writer is not None
        if written:
            self._writer.close()
        if kind is None and written:
            self._partial.chmod(0o666 & ~_umask())  # mkstemp makes a file that only its owner may read
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def write(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,)
        *,
        predictions: Tensor | None = None,  # (B,)
        losses: Tensor | None = None,  # (B,)
        scores: Tensor | None = None,  # (B, C)
        names: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
    ) -> None:
        """Append rows; every call has the same columns. A prediction of -1 is none and becomes an empty cell."""
        columns = {"embedding": _vectors(embeddings), "label": pa.array(labels.cpu().numpy(), pa.int64())}
        if predictions is not None:
            classes = predictions.cpu().numpy()
            columns["prediction"] = pa.array(classes, pa.int64(), mask=classes < 0)
        if losses is not None:
            columns["loss"] = pa.array(losses.float().cpu().numpy(), pa.float32())
        if scores is not None:
            columns["scores"] = _vectors(scores)
        if names is not None:
            columns["name"] = pa.array(list(names), pa.string())
        if splits is not None:
            columns["split"] = pa.array(list(splits), pa.string())
        table = pa.table(columns).replace_schema_metadata({"bisector": json.dumps(self._notes)})
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._partial, table.schema, compression="zstd")
        self._writer.write_table(table)


def _vectors(rows: Tensor) -> "pa.Array":
    values = np.ascontiguousarray(rows.detach().float().cpu().numpy())
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])


def _given(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (settings or {}).items() if value is not None}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ArgumentError(f"file: {path} cannot be read as Parquet: {error}") from None


def _is_vector(kind: Any) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in lists) and (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    )


def _array(chunk: Any, name: str) -> Array:
    """A chunk as numpy: (N,), or (N, D) of vectors with NaN where one is missing."""
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if not _is_vector(chunk.type):
        text = pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)
        array: Array = chunk.to_numpy(zero_copy_only=False)
        return np.asarray(array, dtype=object) if text else array
    lengths = set(pc.unique(pc.list_value_length(chunk)).to_pylist()) - {None}
    require(
        len(lengths) <= 1,
        f"column {name!r}",
        f"vectors of {min(lengths, default=0)} to {max(lengths, default=0)} numbers",
        "one length",
    )
    there = chunk.is_valid().to_numpy(zero_copy_only=False)
    values = chunk.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    width = (
        lengths.pop() if lengths else (chunk.type.list_size if pa.types.is_fixed_size_list(chunk.type) else 0)
    )
    rows: Array = values.reshape(int(there.sum()), width)
    if there.all():
        return rows
    full = np.full((len(chunk), width), np.nan, dtype=np.float32)
    full[there] = rows
    return full


def _absent(rows: int, shape: tuple[int, ...]) -> Array:
    """Cells that are all empty, of numbers or of vectors of this shape."""
    return np.full((rows, *shape), np.nan, dtype=np.float32) if shape else np.full(rows, None, dtype=object)


def _named(schema: Any, wanted: str | None, key: str, what: str, file: Path) -> str:
    if wanted is not None:
        require(wanted in schema.names, f"{what} column", f"{wanted!r} in {file}", _one_of(schema.names))
        return wanted
    name = _first(schema, ALIASES[key])
    if name is None:
        usual = ", ".join(ALIASES[key][:3])
        raise ArgumentError(
            f"file: got {file} with no column {usual}; name it with --{what}: {_one_of(schema.names)}"
        )
    return name


def _sort(kind: Any) -> str:
    """What a column holds, apart from its precision: files of one folder may differ in that alone."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_vector(kind):
        return "vectors"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "numbers"
    if pa.types.is_null(kind):
        return "empty"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "words"
    return str(kind)


def _first(schema: Any, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in schema.names), None)


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if names else "a column of lists of numbers"


def _notes(metadata: Mapping[bytes, bytes] | None, path: Path) -> dict[str, Any]:
    text = (metadata or {}).get(b"bisector")
    if text is None:
        return {}
    try:
        notes = json.loads(text)
    except ValueError:
        notes = None
    fits = isinstance(notes, dict) and all(
        isinstance(notes.get(key, []), list) and all(isinstance(word, str) for word in notes.get(key, []))
        for key in ("class_names", "left_out")
    )
    expected = "a JSON object whose class_names and left_out are lists of strings"
    require(fits, "file", f"{path} with other metadata 'bisector'", expected)
    return dict(notes)
