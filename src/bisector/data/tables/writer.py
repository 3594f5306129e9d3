"""Embeddings written as Parquet, batch by batch."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor

from bisector._version import __version__
from bisector.errors import missing_extra
from bisector.files import whole_file

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise missing_extra("pyarrow", "measure") from None

_ROWS = 65_536  # of a row group at most
_BYTES = 2**26  # of the widest column of a row group, unless one row has more


def group_rows(width: int) -> int:
    """Rows of a row group where a row's widest column has so many float32 numbers.

    >>> group_rows(10), group_rows(1203)
    (65536, 13946)
    """
    return max(1, min(_ROWS, _BYTES // (4 * max(width, 1))))


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
        head: that made the scores: `name`, `tau`, the strength of the prior in its training, and `decision`, the
            method by which predictions were chosen, where it was not the highest score.
        group_rows: of a row group; None for one row group a call of `write`.
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
        head: Mapping[str, Any] | None = None,
        group_rows: int | None = None,
    ) -> None:
        self._path = path
        self._group_rows = group_rows
        self._waiting: list[Any] = []  # tables of the row group to come
        self._notes = {
            "class_names": list(class_names),
            "model": model,
            "data": data,
            "left_out": list(left_out),
            "version": __version__,
            **({"adjusted": adjusted} if adjusted else {}),
            **({"settings": kept} if (kept := _given(settings)) else {}),
            **({"head": dict(head)} if head else {}),
        }
        self._writer: Any = None
        self._open = ExitStack()  # the writer, and the file that it writes into

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and self._waiting:
            with self._open:  # what is written goes away with an error of the last row group too
                self._write_groups(1)
        else:
            self._open.__exit__(kind, error, traceback)

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
        columns = {"embedding": _vectors(embeddings)} if embeddings.shape[1] else {}
        columns["label"] = pa.array(labels.cpu().numpy(), pa.int64())
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
            file = self._open.enter_context(whole_file(self._path))
            self._writer = self._open.enter_context(
                pq.ParquetWriter(file, table.schema, compression="zstd", write_page_checksum=True)
            )
        if self._group_rows is None:
            self._writer.write_table(table)
        else:
            self._waiting.append(table)
            self._write_groups(self._group_rows)

    def _write_groups(self, least: int) -> None:
        """Write what waits as row groups, as long as so many rows wait."""
        while (rows := sum(map(len, self._waiting))) >= least:
            whole, size = pa.concat_tables(self._waiting), min(rows, self._group_rows or rows)
            self._writer.write_table(whole.slice(0, size), row_group_size=size)
            self._waiting = [whole.slice(size)]


def _vectors(rows: Tensor) -> "pa.Array":
    values = np.ascontiguousarray(rows.detach().float().cpu().numpy())
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])


def _given(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (settings or {}).items() if value is not None}
