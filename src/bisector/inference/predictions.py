"""Classes and probabilities of many examples, streamed into a file: Parquet, CSV or JSON."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from bisector._version import __version__
from bisector.errors import missing_extra, require, require_integer
from bisector.files import csv_text, whole_file

if TYPE_CHECKING:
    from bisector.inference.inputs import Inputs
    from bisector.inference.predictor import Predictor

_ROWS = 65_536  # of a row group


class Prediction(NamedTuple):
    """What a classifier says of one example."""

    name: str  # where the example comes from
    split: str | None
    label: str | None
    classes: list[str]  # the k most probable, in their order: the first is the prediction
    probabilities: list[float]


def predictions(
    model: "Predictor", inputs: "Inputs", *, batch_size: int = 256, top_k: int = 5
) -> Iterator[list[Prediction]]:
    """Yield what a model says of its inputs, batch by batch.

    Args:
        model: that is asked.
        inputs: what it is asked about.
        batch_size: examples at once.
        top_k: classes of each, or all where there are fewer.

    Raises:
        ArgumentError: a number is not as described, or the examples are none that the model takes.
    """
    require_integer("batch_size", batch_size, least=1)
    count = min(require_integer("top_k", top_k, least=1), len(model.class_names))
    for asked in inputs.batches(batch_size):
        scores = model.decided(asked.inputs)
        finite = scores.isfinite().all(dim=1).tolist()
        if not all(finite):
            got = f"scores that are not finite, of {asked.names[finite.index(False)]}"
            require(False, "model", got, "finite numbers")
        found, classes = scores.softmax(dim=1).topk(count, dim=1)
        yield [
            Prediction(name, split, label, [model.class_names[index] for index in top], values)
            for name, split, label, top, values in zip(
                asked.names, asked.splits, asked.labels, classes.tolist(), found.tolist(), strict=True
            )
        ]


class Columns(NamedTuple):
    """Which columns a file of predictions has, besides those that every one has."""

    split: bool
    label: bool
    top_k: int

    def cells(self, row: Prediction) -> dict[str, str | None]:
        """Return what is known of the example."""
        known = {"name": row.name, "split": row.split, "label": row.label}
        return {key: text for key, text in known.items() if getattr(self, key, True)}


Write = Callable[[Sequence[Prediction]], None]


def require_format(path: Path) -> None:
    """Raise `ArgumentError` unless the suffix of a file is that of a format in which predictions are written."""
    legal = f"a name that ends in {', '.join(_FORMATS)}"
    require(path.suffix.lower() in _FORMATS, "--out", str(path), legal)


@contextmanager
def prediction_file(path: Path, columns: Columns, notes: Mapping[str, Any]) -> Iterator[Write]:
    """Give a function that appends predictions to a file, which is whole or not there.

    ``.csv`` has ``top_1``, ``probability_1``, ``top_2``, … beside ``name``, ``split``, ``label``, ``prediction``
    and ``probability``; ``.json`` (an array), ``.jsonl`` (an object a line) and ``.parquet`` have the lists
    ``top_classes`` and ``top_probabilities``.

    Args:
        path: of the file, whose suffix says the format.
        columns: that it has.
        notes: about the model and the data, kept in the metadata of Parquet; read when all is written.

    Raises:
        ArgumentError: the suffix is of no format.
        MissingExtraError: without pyarrow, for Parquet.
        OSError: the file cannot be written.
    """
    require_format(path)
    with whole_file(path) as file, _FORMATS[path.suffix.lower()](file, columns, notes) as write:
        yield write


@contextmanager
def _csv(file: BinaryIO, columns: Columns, notes: Mapping[str, Any]) -> Iterator[Write]:
    def write(rows: Sequence[Prediction]) -> None:
        lines = []
        for row in rows:
            top = [(name, f"{p:.6g}") for name, p in zip(row.classes, row.probabilities, strict=True)]
            cells = ["" if text is None else text for text in columns.cells(row).values()]
            lines.append([*cells, *top[0], *(cell for pair in top if columns.top_k > 1 for cell in pair)])
        file.write(csv_text(lines).encode())

    ranks = range(1, columns.top_k + 1) if columns.top_k > 1 else ()
    top = [word for rank in ranks for word in (f"top_{rank}", f"probability_{rank}")]
    known = columns.cells(Prediction("", "", "", [], []))
    file.write(csv_text([[*known, "prediction", "probability", *top]]).encode())
    yield write


def _json(separator: str, end: str) -> "_Format":
    @contextmanager
    def opened(file: BinaryIO, columns: Columns, notes: Mapping[str, Any]) -> Iterator[Write]:
        before = "[\n" if end else ""

        def write(rows: Sequence[Prediction]) -> None:
            nonlocal before
            for row in rows:
                text = json.dumps(record_of(row, columns), ensure_ascii=False, allow_nan=False)
                file.write(f"{before}{text}".encode())
                before = separator

        yield write
        file.write(f"\n{end}".encode())

    return opened


def record_of(row: Prediction, columns: Columns) -> dict[str, Any]:
    """Return what a file of JSON says of one example."""
    rounded = [float(f"{p:.6g}") for p in row.probabilities]
    record = {**columns.cells(row), "prediction": row.classes[0], "probability": rounded[0]}
    more = {"top_classes": row.classes, "top_probabilities": rounded}
    return {**record, **(more if columns.top_k > 1 else {})}


@contextmanager
def _parquet(file: BinaryIO, columns: Columns, notes: Mapping[str, Any]) -> Iterator[Write]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", "measure") from None
    text, number = pa.string(), pa.float32()
    kinds = {**dict.fromkeys(columns.cells(Prediction("", "", "", [], [])), text), "prediction": text}
    kinds["probability"] = number
    if columns.top_k > 1:
        kinds |= {"top_classes": pa.list_(text), "top_probabilities": pa.list_(number)}
    schema = pa.schema(list(kinds.items()))
    waiting: list[Prediction] = []

    def flush() -> None:
        if waiting:
            records = [record_of(row, columns) for row in waiting]
            writer.write_table(pa.Table.from_pylist(records, schema=schema))
            waiting.clear()

    def write(rows: Sequence[Prediction]) -> None:
        waiting.extend(rows)
        if len(waiting) >= _ROWS:
            flush()

    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        yield write
        flush()
        writer.add_key_value_metadata({"bisector": json.dumps({**notes, "version": __version__})})


_Format = Callable[[BinaryIO, Columns, Mapping[str, Any]], AbstractContextManager[Write]]
_FORMATS: Mapping[str, _Format] = {
    ".parquet": _parquet,
    ".pq": _parquet,
    ".csv": _csv,
    ".json": _json(",\n", "]\n"),
    ".jsonl": _json("\n", ""),
    ".ndjson": _json("\n", ""),
}
"""How a file is written, by its suffix."""
