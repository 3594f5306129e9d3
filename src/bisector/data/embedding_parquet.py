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
from bisector.data.embedding_columns import Array, Columns, class_names_of, split_of_file
from bisector.errors import ArgumentError, missing_extra, require

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError:
    raise missing_extra("pyarrow", "measure") from None

_VECTORS = ("embedding", "embeddings", "features", "feature", "vector", "vectors", "x", "X")
_LABELS = ("label", "labels", "y", "target", "targets", "class", "fine_label")
_PREDICTIONS = ("prediction", "predictions", "predicted")
_LOSSES = ("loss", "losses")
_SCORES = ("scores", "logits", "probabilities")
_NAMES = ("name", "names", "path", "file", "file_name", "id")
_SPLITS = ("split",)


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
    vector = vector_column(schema, embedding)
    columns = {
        "embeddings": vector,
        "labels": _named(schema, label, _LABELS, "label"),
        "predictions": _first(schema, _PREDICTIONS),
        "losses": _first(schema, _LOSSES),
        "scores": _first(schema, _SCORES),
        "names": _first(schema, _NAMES),
        "splits": _first(schema, _SPLITS),
    }
    wanted = list(dict.fromkeys(name for name in columns.values() if name is not None))
    tables = []
    for path, file in zip(paths, files, strict=True):
        absent = [name for name in wanted if name not in file.schema_arrow.names]
        require(not absent, "file", f"{path} without the column {absent[:1]}", f"the columns of {paths[0]}")
        tables.append(file.read(columns=wanted))

    def column(key: str) -> Array | None:
        name = columns[key]
        if name is None:
            return None
        return np.concatenate([_array(chunk, name) for table in tables for chunk in table.column(name).chunks] or [
            _array(pa.array([], schema.field(name).type), name)
        ])  # fmt: skip

    embeddings, labels, splits = column("embeddings"), column("labels"), column("splits")
    assert embeddings is not None
    assert labels is not None
    by_file = [split_of_file(path.stem) for path in paths]
    if splits is None and len(set(by_file)) > 1 and None not in by_file:
        splits = np.repeat(np.array(by_file, dtype=str), [len(table) for table in tables])
    notes = _notes(schema.metadata)
    named = notes.get("class_names") or class_names_of(schema.metadata, str(columns["labels"]))
    return Columns(
        embeddings=embeddings,
        labels=labels,
        predictions=column("predictions"),
        losses=column("losses"),
        scores=column("scores"),
        names=column("names"),
        splits=splits,
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


def vector_column(schema: "pa.Schema", wanted: str | None = None) -> str:
    """The name of the column of embeddings.

    Raises:
        ArgumentError: if there is none, or more than one and none has a usual name.
    """
    vectors = [field.name for field in schema if _is_vector(field.type)]
    if wanted is not None:
        require(wanted in vectors, "embedding column", repr(wanted), _one_of(vectors))
        return wanted
    for name in _VECTORS:
        if name in vectors:
            return name
    others = [name for name in vectors if name not in _SCORES]
    require(len(others) == 1, "file", f"{len(others)} columns of vectors", _one_of(others))
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
    """

    def __init__(
        self,
        path: Path,
        *,
        class_names: Sequence[str],
        model: str = "",
        data: str = "",
        left_out: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._notes = {
            "class_names": list(class_names),
            "model": model,
            "data": data,
            "left_out": list(left_out),
            "version": __version__,
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
        """Append rows; every call has the same columns."""
        columns = {"embedding": _vectors(embeddings), "label": pa.array(labels.cpu().numpy(), pa.int64())}
        if predictions is not None:
            columns["prediction"] = pa.array(predictions.cpu().numpy(), pa.int64())
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


def _named(schema: Any, wanted: str | None, usual: Sequence[str], what: str) -> str:
    if wanted is not None:
        require(wanted in schema.names, f"{what} column", repr(wanted), _one_of(schema.names))
        return wanted
    name = _first(schema, usual)
    if name is None:
        raise ArgumentError(
            f"file: got no column {', '.join(usual[:3])}; name it with --{what}: {_one_of(schema.names)}"
        )
    return name


def _first(schema: Any, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in schema.names), None)


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if names else "a column of lists of numbers"


def _notes(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    text = (metadata or {}).get(b"bisector")
    return dict(json.loads(text)) if text is not None else {}
