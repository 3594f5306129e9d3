"""A table of embeddings that stays where it is stored: what is known of it, and its rows in checked chunks."""

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.tables.arrays import array_files, open_arrays
from bisector.data.tables.classes import Classes, LabelValues
from bisector.data.tables.columns import (
    KINDS,
    SPLITS,
    Array,
    Kind,
    as_logits,
    floats,
    kind_of_scores,
    one_each,
    split_codes,
    texts,
)
from bisector.data.tables.reader import Part, Piece, TableReader
from bisector.data.tables.tensor_files import PICKLES, refused_pickle
from bisector.errors import ArgumentError, require, require_choice

NO_LABEL = "no label"
NO_VECTOR = "its vector is missing or not finite"
NO_PREDICTION = "no prediction and no finite scores"

_KEYS = ("embeddings", "labels", "predictions", "losses", "scores", "splits")
_EXPECTED = (
    "an embeddings table: .parquet, .arrow or .feather, a folder of them, a data set of Hugging Face, .csv, .tsv, "
    ".jsonl, .npz, .pt, .safetensors, or a pair of .npy"
)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows that have a label and a finite vector, in the order of the file.

    Args:
        part: that they are of.
        rows: (n,) int64, their numbers in the whole table.
        embeddings: (n, D) float32; D is 0 in a table of scores alone.
        labels: (n,) int64, from 0 to C - 1.
        predictions: (n,) int64, -1 where there is none.
        losses: (n,) float32 in nats, NaN where there is none.
        splits: (n,) uint8, positions in `bisector.data.tables.columns.SPLITS`.
        left_out: how many rows are not here, or not with all, and why.
        scores: (n, C) float32, logits; NaN in the rows that have none.
        names: (n,) of strings, where they were asked for.
    """

    part: Part
    rows: Array  # (n,)
    embeddings: Array  # (n, D)
    labels: Array  # (n,)
    predictions: Array | None  # (n,)
    losses: Array | None  # (n,)
    splits: Array | None  # (n,)
    left_out: Mapping[str, int]
    scores: Array | None = None  # (n, C)
    names: Array | None = None  # (n,)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class StoredEmbeddings:
    """A table of embeddings that stays where it is stored; see `open_embeddings`.

    Small, and it may be sent to another process: it holds names and counts, and opens the files when it reads.

    Args:
        reader: of the rows.
        classes: by the rules of `bisector.data.tables.read_embeddings`, and the labels that mean them.
        counts: (C,) int64, labelled rows of each class in the training split, or of all rows where it has none. A
            vector may yet turn out to be missing: such a row is counted here, and not in a chunk.
        train_only: whether `counts` are those of the training split: it has a labelled row.
        rows: N, with those that will be left out.
        split_rows: rows by split, with those that will be left out; empty where there are no splits.
        kind: of the stored scores; "logits" where there are none.
        kind_reason: what the scores were taken for, and why.
    """

    reader: TableReader
    classes: Classes
    counts: Array  # (C,)
    train_only: bool
    rows: int
    split_rows: Mapping[str, int]
    kind: Kind
    kind_reason: str

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order of the rows; the same for the same files, whoever opens them."""
        return self.reader.parts

    @property
    def dim(self) -> int:
        """D."""
        return self.reader.widths.get("embeddings", 0)

    @property
    def num_scores(self) -> int | None:
        """Numbers in a row of scores, if there are any."""
        return self.reader.widths.get("scores")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the C classes."""
        return self.classes.names

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was noted when the table was written: model, data, adjusted, settings, left_out."""
        return self.reader.notes

    @property
    def about(self) -> dict[str, Any]:
        """What was noted of model, data, adjustment, settings and head, by the names that `EmbeddingTable` has."""
        words = {name: str(self.notes.get(name, "")) for name in ("model", "data", "adjusted")}
        noted = {name: self.notes.get(name) for name in ("settings", "head")}
        return words | {name: value if isinstance(value, dict) else {} for name, value in noted.items()}

    @property
    def has_splits(self) -> bool:
        """Whether chunks have splits."""
        return "splits" in self.reader.keys

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of the vectors and the scores of all rows, in float32."""
        return 4 * self.rows * (self.dim + (self.num_scores or 0))

    def left_out_lines(self, counted: Mapping[str, int]) -> tuple[str, ...]:
        """What is missing, a line each: by whoever wrote the table, and by what chunks counted.

        Args:
            counted: the `left_out` of all chunks together.
        """
        ours = (
            f"{counted[why]} row{'s' * (counted[why] > 1)}: {why}"
            for why in (NO_LABEL, NO_VECTOR, NO_PREDICTION)
            if counted.get(why)
        )
        return tuple(
            dict.fromkeys((*self.notes.get("left_out", ()), *ours))
        )  # each once: it may be our own file

    def chunks(
        self, parts: Iterable[Part] | None = None, *, names: bool = False, scores: bool = True
    ) -> Iterator[Chunk]:
        """Yield the rows of these parts, or all, in chunks of at most 16 MiB of vectors.

        Where a chunk ends depends on its part, and on whether scores are read, alone. While one is worked on, the
        next is read by another thread; no more than these two are in memory.

        Args:
            parts: some of those of the table.
            names: whether chunks shall have the names of their rows.
            scores: whether the scores are read; without them predictions and losses are those that are stored.

        Raises:
            ArgumentError: one cannot be read; the message names the file and the row group, batch or slice.
        """
        stream = self._chunks(self.parts if parts is None else parts, names, scores)
        with ThreadPoolExecutor(1, thread_name_prefix="bisector-read") as reader:
            try:
                ahead = reader.submit(next, stream, None)
                while (chunk := ahead.result()) is not None:
                    ahead = reader.submit(next, stream, None)
                    yield chunk
                    del chunk  # else it would be kept while the one after the next is read
            finally:
                reader.submit(stream.close).result()

    def vectors_of(self, rows: Array) -> Array:  # (n,) -> (n, D)
        """The vectors of some rows, by their numbers in the whole table, ascending; float32."""
        return self._column_of(rows, "embeddings", lambda column: column.astype(np.float32, copy=False))

    def names_of(self, rows: Array) -> Array:  # (n,)
        """The names of some rows, by their numbers in the whole table, ascending."""
        return self._column_of(rows, "names", _names)

    def splits_of(self, rows: Array) -> Array:  # (n,)
        """The splits of some rows, by their numbers in the whole table, ascending, as positions in `SPLITS`."""
        return self._column_of(rows, "splits", split_codes)

    def _column_of(self, rows: Array, key: str, checked: Callable[[Array], Array]) -> Array:
        """One column of some rows; parts that have none of them are not read."""
        firsts = np.array([part.first for part in self.parts])
        wanted = np.unique(np.searchsorted(firsts, rows, side="right") - 1)
        found = []
        for piece in self.reader.pieces([self.parts[k] for k in wanted], ("labels", key)):
            inside = slice(*np.searchsorted(rows, (piece.first, piece.first + piece.rows)))
            found.append(checked(piece.columns[key][rows[inside] - piece.first]))
        return np.concatenate(found) if found else np.empty(0)

    def _chunks(self, parts: Iterable[Part], names: bool, scores: bool) -> Generator[Chunk]:
        keys = [key for key in (*_KEYS, "names") if (names or key != "names") and (scores or key != "scores")]
        for piece in self.reader.pieces(parts, keys):
            yield self._checked(piece)

    def _checked(self, piece: Piece) -> Chunk:
        """The rows of a piece that can be used.

        Raises:
            ArgumentError: a row holds what it may not.
        """
        columns, name = piece.columns, self.reader.scores_name
        labels, predictions, known = self.classes.numbers(columns["labels"], columns.get("predictions"))
        with np.errstate(over="ignore"):
            vectors = columns.get("embeddings", np.empty((len(labels), 0)))
            embeddings = np.asarray(vectors, dtype=np.float32)
        finite = finite_rows(embeddings)
        rows = np.arange(piece.first, piece.first + len(labels))
        losses = floats("losses", one_each("losses", columns["losses"])) if "losses" in columns else None
        splits = split_codes(columns["splits"]) if "splits" in columns else None
        names = _names(columns["names"]) if "names" in columns else None
        scores = floats(name, columns["scores"]) if "scores" in columns else None
        if scores is not None and self.kind == "probabilities":
            kind_of_scores(name, scores, self.kind)  # raises where they are none
        kept = np.flatnonzero(known & finite)
        if len(kept) < len(labels):
            rows, embeddings, labels = rows[kept], embeddings[kept], labels[kept]
            predictions, losses, scores, splits, names = (
                None if column is None else column[kept]
                for column in (predictions, losses, scores, splits, names)
            )
        if scores is not None:
            scores = as_logits(scores, self.kind)
            predictions, losses = _predicted(scores, labels, predictions, losses)
        counted = {
            NO_LABEL: int((~known).sum()),
            NO_VECTOR: int((known & ~finite).sum()),
            NO_PREDICTION: 0 if predictions is None else int((predictions < 0).sum()),
        }
        left_out = {why: count for why, count in counted.items() if count}
        return Chunk(
            piece.part, rows, embeddings, labels, predictions, losses, splits, left_out, scores, names
        )


def open_embeddings(
    path: str | os.PathLike[str],
    *,
    embedding: str | None = None,
    label: str | None = None,
    kind: Kind | None = None,
    vectors_needed: bool = True,
    at_once: bool = False,
) -> StoredEmbeddings:
    """Open a table of embeddings to read it in chunks, in bounded memory.

    A first pass reads labels, predictions and splits, and never a vector; it reads scores only where nothing but
    their rows can say what they are.

    - **Parquet**: a file or a folder, and in it every folder whose name begins with no dot and no underscore.
    - **Arrow**: `.arrow` and `.feather`, with an index or a stream; a folder of them, or what `save_to_disk` of
      Hugging Face's datasets wrote, with its splits.
    - **CSV** and **TSV**: one file, a row a line; **JSON Lines** (`.jsonl`, `.ndjson`): an object a line.
    - **npz**, **a pair of npy**, **pt** (`.pth`) and **safetensors**: on this machine.

    Parquet, Arrow, text and JSON Lines may lie behind a URL of pyarrow or fsspec.
    `bisector.data.tables.read_embeddings` says which columns are taken and what the classes are.

    Args:
        path: of the file or folder; its URL; or two of .npy with a comma between.
        embedding: name of the vectors, where the usual ones do not find them.
        label: name of the labels.
        kind: what the scores are: "logits" or "probabilities"; None for what their name says, or their rows.
        vectors_needed: whether scores or predictions without vectors are refused.
        at_once: whether an array of an archive that lies column by column is read whole, else refused.

    Raises:
        ArgumentError: nothing there is an embeddings table, it cannot be read, or a label is not a class.
        MissingExtraError: for Parquet, Arrow and text without pyarrow.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "birds.npz"
    >>> np.savez(file, x=[[1.0, 0.0], [0.0, np.nan], [0.0, 1.0]], y=["wren", "wren", "owl"])
    >>> birds = open_embeddings(file)
    >>> birds.class_names, birds.counts
    (('owl', 'wren'), array([1, 2]))
    >>> [(chunk.labels.tolist(), dict(chunk.left_out)) for chunk in birds.chunks()]
    [([1, 0], {'its vector is missing or not finite': 1})]
    """
    text = os.fspath(path)
    arrays = array_files(text)
    if arrays is not None:
        opened = open_arrays(arrays, embedding, label, vectors_needed=vectors_needed, at_once=at_once)
        return _surveyed(opened, kind)
    if Path(text).suffix.lower() in PICKLES and Path(text).is_file():
        raise refused_pickle(text)
    require("://" in text or Path(text).exists(), "file", f"{text}, which is not there", _EXPECTED)
    from bisector.data.tables.arrow import open_arrow
    from bisector.data.tables.listing import list_files, locate

    location = locate(text)
    found = list_files(location)
    if found is None:
        run = "://" not in text and (Path(text) / "settings.json").is_file()
        hint = f"; of the training in it: bisector embed {text}, first" if run else ""
        raise ArgumentError(f"file: got {text}; expected {_EXPECTED}{hint}")
    return _surveyed(open_arrow(location, found, embedding, label, vectors_needed=vectors_needed), kind)


def is_embeddings(path: str | os.PathLike[str]) -> bool:
    """Whether there is a table of embeddings: of arrays, by the names of files, of the others, by schema."""
    if array_files(path) is not None:
        return True
    from bisector.data.tables.arrow import schema_of
    from bisector.data.tables.arrow_columns import vector_column
    from bisector.data.tables.listing import list_files, locate

    location = locate(path)
    try:
        found = list_files(location)
        return found is not None and bool(vector_column(schema_of(location, found)))
    except ArgumentError:
        return False


def finite_rows(vectors: Array) -> Array:  # (n,)
    """Which rows of (n, D) float32 hold finite numbers alone, (n,) bool.

    >>> finite_rows(np.array([[3e38, 3e38], [np.nan, 1.0]], dtype=np.float32))
    array([ True, False])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = vectors.sum(axis=1)  # not a product: its threads would take the time of whoever uses the rows
    finite: Array = np.isfinite(sums)
    # No sum is finite that has a part which is not: seldom is an array of (n, D) answers needed.
    doubtful = np.flatnonzero(~finite)
    finite[doubtful] = np.isfinite(vectors[doubtful]).all(axis=1)
    return finite


def _surveyed(reader: TableReader, kind: Kind | None) -> StoredEmbeddings:
    """The first pass: find the classes, count their rows, and find out what the scores are."""
    seen = LabelValues()
    of_split: dict[int, Counter[Any]] = {}
    rows = 0
    for piece in reader.pieces(reader.parts, ("labels", "predictions", "splits")):
        labels = one_each("labels", piece.columns["labels"])
        seen.add(labels, piece.columns.get("predictions"))
        there = np.zeros(len(labels), dtype=np.uint8)
        codes = split_codes(piece.columns["splits"]) if "splits" in piece.columns else there
        rows += len(labels)
        for code in np.unique(codes).tolist():
            of_split.setdefault(code, Counter()).update(_tallied(labels[codes == code]))
    reader = _matched(reader, seen) if reader.class_columns else reader
    num_scores = reader.widths.get("scores")
    by_name = not {*seen.words} - {*reader.class_columns} if reader.class_columns else False
    classes = seen.classes(reader.class_names, num_scores, by_name=by_name)
    if num_scores is not None:
        fits = num_scores == len(classes.names)
        expected = f"({rows}, {len(classes.names)}), a column a class"
        require(fits, "scores", f"shape ({rows}, {num_scores})", expected)
    counts = {code: _counts(classes, counter) for code, counter in sorted(of_split.items())}
    labelled = sum(int(each.sum()) for each in counts.values())
    require(labelled > 0, "file", "no row that has a label and a finite vector", "at least one")
    has_splits = "splits" in reader.keys
    train_only = has_splits and 0 in counts and bool(counts[0].any())
    found, told = _kind(reader, kind)
    return StoredEmbeddings(
        reader=reader,
        classes=classes,
        counts=counts[0] if train_only else np.sum(list(counts.values()), axis=0),
        train_only=train_only,
        rows=rows,
        split_rows={SPLITS[code]: of_split[code].total() for code in counts} if has_splits else {},
        kind=found,
        kind_reason=told,
    )


def _matched(reader: TableReader, seen: LabelValues) -> TableReader:
    """A table whose columns of scores are called after classes, which are then those; not used if no label is one.

    Raises:
        ArgumentError: a class has no column.
    """
    columns = reader.class_columns
    names = tuple(columns)
    classes = reader.class_names or tuple(seen.words)
    missing = [name for name in classes if name not in columns]
    if len(missing) < len(classes) or not classes:
        told = f"no column of {', '.join(map(repr, missing[:3]))}{' ...' * (len(missing) > 3)}"
        require(not missing, "scores", told, f"one of every class, as {columns[names[0]]!r} of {names[0]!r}")
        same = classes == names or {*seen.words} <= {
            *names
        }  # else labels are numbers of classes in their order
        require(same, "scores", f"columns of {', '.join(names[:10])}", f"the order {', '.join(classes[:10])}")
        return replace(reader, class_names=names)
    others = {key: name for key, name in reader.columns.items() if key != "scores"}
    told = f"columns such as {columns[names[0]]!r}, and no class that is called so"
    fits = bool({"embeddings", "predictions"} & {*others})
    require(fits, "scores", told, f"those of the classes, {', '.join(classes[:10])}")
    widths = {key: width for key, width in reader.widths.items() if key != "scores"}
    unused = (*reader.unused, *columns.values())
    return replace(reader, columns=others, widths=widths, unused=unused, class_columns={})


def _tallied(column: Array) -> dict[Any, int]:
    if column.dtype.kind == "O":
        return Counter(column.tolist())
    values, counts = np.unique(column, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _counts(classes: Classes, counter: Counter[Any]) -> Array:  # (C,)
    values = np.empty(len(counter), dtype=object)
    values[:] = list(counter)
    numbers, _, known = classes.numbers(values)
    times = np.array(list(counter.values()), dtype=np.int64)
    found = np.zeros(len(classes.names), dtype=np.int64)
    np.add.at(found, numbers[known], times[known])
    return found


def _kind(reader: TableReader, kind: Kind | None) -> tuple[Kind, str]:
    """What the scores are. Where only their rows can say it these are read, until one of them says "logits"."""
    if kind is not None:
        require_choice("kind", kind, KINDS)
    name = reader.scores_name
    found = kind_of_scores(name, np.empty((0, 0)), kind)
    if "scores" in reader.keys and kind is None and name not in KINDS:
        for piece in reader.pieces(reader.parts, ("scores",)):
            scores = floats(name, piece.columns["scores"])
            if np.isfinite(scores).all(axis=1).any():
                found = kind_of_scores(name, scores)
                if found[0] == "logits":
                    break
    return found


def _names(column: Array) -> Array:  # (n,)
    """Names as strings, "" where there is none."""
    column = one_each("names", column)
    if column.dtype.kind == "f" and bool((column == column.round())[~np.isnan(column)].all()):
        column = np.array(
            [None if np.isnan(value) else int(value) for value in column.tolist()], dtype=object
        )
    if column.dtype.kind == "O":
        column = np.array(["" if name is None else name for name in column.tolist()], dtype=object)
    return texts("names", column)


def _predicted(
    scores: Array,  # (n, C) logits
    labels: Array,  # (n,)
    predictions: Array | None,  # (n,)
    losses: Array | None,  # (n,)
) -> tuple[Array, Array]:
    """Predictions and losses: those that are there, else the class of the largest score and the cross-entropy."""
    logits: Tensor = torch.from_numpy(scores)
    scored = logits.isfinite().all(dim=1)
    own = logits.nan_to_num().argmax(dim=1).where(scored, torch.tensor(-1)).numpy()
    predictions = own if predictions is None else np.where(predictions >= 0, predictions, own)
    if losses is None:
        losses = cross_entropy(logits, torch.from_numpy(labels), reduction="none").numpy()
    return predictions, losses
