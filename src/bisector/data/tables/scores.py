"""Stored scores: what a trained model said of each example, with or without its embeddings."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from bisector.data.tables.arrays import class_names_in, find, load_archive, load_array, require_member
from bisector.data.tables.classes import LabelValues
from bisector.data.tables.columns import SPLITS, Array, Kind, kind_of_scores, one_each, split_codes
from bisector.data.tables.dataset import Chunk, StoredEmbeddings, open_embeddings
from bisector.data.tables.embedding_table import NO_ROW, EmbeddingTable, table_of, whole_table
from bisector.errors import ArgumentError, require

_ARRAYS = {".npy", ".npz"}
_BLOCK = 65_536  # rows of a table in memory that are looked at together


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores with what is known of their rows.

    Args:
        scores: (N, C) floating; a row that is not finite has none.
        kind: what they are: "logits" or "probabilities".
        class_names: of the columns.
        labels: (N,) integers from 0 to C - 1; -1 in a row that has none.
        splits: "train", "validation" or "test" for each row.
        embeddings: the table they come from, if they come from one; it may have no vectors.
        vectors: (N, D) the embeddings, where there are any.
        told: what the scores were taken for when they were read, and why.
        columns: which columns of a table were taken for what, in a line; empty for arrays.
        adjusted: what was done to the scores after the model; empty where they are its own.
        head: that made the scores, where it is known: `name` and `tau`, the strength of the prior in its training.

    Raises:
        ArgumentError: the columns do not fit each other, or a label is not a class.
    """

    scores: Tensor  # (N, C)
    kind: Kind
    class_names: tuple[str, ...]
    labels: Tensor | None = None  # (N,)
    splits: list[str] | None = None
    embeddings: EmbeddingTable | None = None
    vectors: Tensor | None = None  # (N, D)
    told: str = ""
    columns: str = ""
    adjusted: str = ""
    head: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.scores.shape)
        classes = len(self.class_names)
        fits = len(shape) == 2 and shape[1] == classes
        require(fits, "scores", f"shape {shape}", f"(N, {classes}), a column a class")
        for name in ("labels", "splits", "vectors"):
            column = getattr(self, name)
            rows = shape[0] if column is None else len(column)
            require(rows == shape[0], name, f"{rows} rows", f"{shape[0]}, as scores")
        if self.labels is not None:
            wrong = self.labels[(self.labels < -1) | (self.labels >= classes)]
            require(not len(wrong), "labels", wrong[:3].tolist(), f"classes from 0 to {classes - 1}, or -1")

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def scored(self) -> Tensor:
        """Whether a row has finite scores, (N,) bool."""
        return self.scores.isfinite().all(dim=1)

    @property
    def has_splits(self) -> bool:
        """Whether every row is of a split."""
        return self.splits is not None

    @property
    def dim(self) -> int:
        """D; 0 where there are no vectors."""
        return 0 if self.vectors is None else self.vectors.shape[1]

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for everything that was found and is not in the table, or not all of it."""
        return () if self.embeddings is None else self.embeddings.left_out

    def rows_of(self, split: str) -> Tensor:  # (M,)
        """The positions of a split; none where the table has no splits."""
        return torch.tensor([row for row, name in enumerate(self.splits or ()) if name == split]).long()

    def predictions_of(self, rows: Tensor) -> Tensor:  # (M,) -> (M,)
        """The class of the highest score in each of these rows."""
        return self.scores[rows].argmax(1)

    def take(self, rows: Tensor) -> "ScoreTable":  # (M,)
        """Scores, labels and vectors of these rows, in this order."""
        labels, vectors = (None if column is None else column[rows] for column in (self.labels, self.vectors))
        return replace(
            self, scores=self.scores[rows], labels=labels, vectors=vectors, splits=None, embeddings=None
        )

    def first(self, count: int) -> "ScoreTable":
        """Return the first `count` rows with finite scores, or as many as there are, as `take` does."""
        return self.take(self.scored.nonzero().flatten()[:count])

    def blocks(
        self, rows: Tensor | None = None, *, names: bool = False
    ) -> Iterator[tuple[Tensor, "ScoreTable"]]:
        """Yield all rows, or some, ascending, in blocks of bounded size: their positions, and what `take` returns.

        Args:
            rows: (M,) positions.
            names: whether names of rows shall be with them, where they have any.
        """
        for block in torch.split(torch.arange(len(self)) if rows is None else rows, _BLOCK):
            yield block, self.take(block)

    def train_blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the vectors (n, D) and labels (n,) of the labelled rows of split "train"."""
        if self.vectors is not None and self.labels is not None:
            rows = self.rows_of("train")
            rows = rows[self.labels[rows] >= 0]
            yield self.vectors[rows], self.labels[rows]


@dataclass(frozen=True, eq=False)
class StoredScores:
    """Scores that stay where they are stored: what is known of every row, and the rows in blocks.

    Of a row some twenty bytes are held; vectors and scores are read when they are asked for. What it has in common
    with `ScoreTable` is described there.

    Args:
        stored: the table, which has scores.
        labels: (N,) int64.
        predictions: (N,) int64, the class of the highest score; -1 in a row without finite scores, and in rows of
            split "train" whose scores nothing asked for.
        codes: (N,) uint8, the splits as positions in `bisector.data.tables.columns.SPLITS`.
        starts: (P,) the position of the first row of each part of the table.
        left_out: a line for everything that is missing.
    """

    stored: StoredEmbeddings
    labels: Tensor  # (N,)
    predictions: Tensor  # (N,)
    codes: Array | None  # (N,)
    starts: Array  # (P,)
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def kind(self) -> Kind:
        """Logits: of probabilities the logarithm is taken."""
        return "logits"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the columns."""
        return self.stored.class_names

    @property
    def told(self) -> str:
        """What the scores were taken for, and why."""
        return _told(self.stored)

    @property
    def columns(self) -> str:
        """Which columns were taken for what, in a line."""
        return self.stored.reader.columns_line

    @property
    def adjusted(self) -> str:
        """What was done to the scores after the model."""
        found: str = self.stored.about["adjusted"]
        return found

    @property
    def head(self) -> Mapping[str, Any]:
        """The head that made the scores."""
        found: Mapping[str, Any] = self.stored.about["head"]
        return found

    @property
    def scored(self) -> Tensor:
        """Whether a row has finite scores, (N,) bool; False where nothing asked for them."""
        return self.predictions >= 0

    @property
    def has_splits(self) -> bool:
        """Whether every row is of a split."""
        return self.codes is not None

    @property
    def dim(self) -> int:
        """D; 0 where there are no vectors."""
        return self.stored.dim

    def rows_of(self, split: str) -> Tensor:  # (M,)
        """The positions of a split; none where the table has no splits."""
        codes = np.empty(0) if self.codes is None else self.codes
        return torch.from_numpy(np.flatnonzero(codes == SPLITS.index(split)))

    def predictions_of(self, rows: Tensor) -> Tensor:  # (M,) -> (M,)
        """The class of the highest score in each of these rows."""
        return self.predictions[rows]

    def take(self, rows: Tensor) -> ScoreTable:  # (M,)
        """Return these rows, ascending, in memory."""
        scores = torch.empty(len(rows), len(self.class_names))
        vectors = torch.empty(len(rows), self.dim) if self.dim else None
        start = 0
        for _, block in self.blocks(rows):
            here = slice(start, start + len(block))
            scores[here], start = block.scores, start + len(block)
            if vectors is not None and block.vectors is not None:
                vectors[here] = block.vectors
        return ScoreTable(
            scores, self.kind, self.class_names, self.labels[rows], vectors=vectors, head=self.head
        )

    def first(self, count: int) -> ScoreTable:
        """Return the first `count` rows with finite scores, or as many as there are; others are not read."""
        found: list[Tensor] = []
        held = 0
        for rows, block in self.blocks():
            found.append(rows[block.scored.nonzero().flatten()[: count - held]])
            held += len(found[-1])
            if held == count:
                break
        return self.take(torch.cat(found))

    def blocks(
        self, rows: Tensor | None = None, *, names: bool = False
    ) -> Iterator[tuple[Tensor, ScoreTable]]:
        """Yield all rows, or some, ascending: their positions and what is stored of them, a chunk at a time."""
        wanted = np.arange(len(self.starts))
        if rows is not None:
            wanted = np.unique(np.searchsorted(self.starts, rows.numpy(), side="right") - 1)
        for places, chunk in self._chunks(wanted, names=names):
            table = table_of(self.stored, chunk)
            if rows is not None:
                inside = slice(
                    *torch.searchsorted(rows.contiguous(), torch.tensor([places.start, places.stop])).tolist()
                )
                if inside.start == inside.stop:
                    continue
                if inside.stop - inside.start < len(places):
                    table = table.select(rows[inside] - places.start)
                yield rows[inside], scores_of(table)
            else:
                yield torch.arange(places.start, places.stop), scores_of(table)

    def train_blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the vectors (n, D) and labels (n,) of the rows of split "train"; their scores are not read."""
        rows = self.rows_of("train").numpy()
        if self.dim and len(rows):
            wanted = np.unique(np.searchsorted(self.starts, rows, side="right") - 1)
            for _, chunk in self._chunks(wanted, scores=False):
                train = np.flatnonzero(chunk.splits == 0)
                yield torch.from_numpy(chunk.embeddings[train]), torch.from_numpy(chunk.labels[train])

    def _chunks(self, wanted: Array, **what: bool) -> Iterator[tuple[range, Chunk]]:
        """Yield the chunks of some parts, and where their rows are."""
        first = {
            part.first: start for part, start in zip(self.stored.parts, self.starts.tolist(), strict=True)
        }
        at, of = 0, -1
        for chunk in self.stored.chunks([self.stored.parts[number] for number in wanted], **what):
            if chunk.part.first != of:
                of, at = chunk.part.first, first[chunk.part.first]
            yield range(at, at + len(chunk)), chunk
            at += len(chunk)


AnyScores: TypeAlias = ScoreTable | StoredScores


def open_scores(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    kind: Kind | None = None,
    embedding: str | None = None,
    label: str | None = None,
) -> AnyScores:
    """Open stored scores: a table stays where it is, arrays (.npz, .npy) are read; see `read_scores`.

    One pass over a table finds out what is left out of it. It reads no scores of rows of split "train" whose
    predictions are stored.
    """
    if Path(path).suffix.lower() in _ARRAYS:
        return read_scores(path, labels=labels, kind=kind, embedding=embedding, label=label)
    stored = _open_table(Path(path), labels, kind, embedding, label)
    held: dict[str, list[Array]] = {"labels": [], "predictions": [], "codes": []}
    rows = {part.first: 0 for part in stored.parts}
    counted: Counter[str] = Counter()
    for scores, parts in groupby(zip(_asked_for(stored), stored.parts, strict=True), lambda pair: pair[0]):
        for chunk in stored.chunks([part for _, part in parts], scores=scores):
            counted.update(chunk.left_out)
            rows[chunk.part.first] += len(chunk)
            held["labels"].append(chunk.labels)
            held["predictions"].append(_highest(chunk))
            if chunk.splits is not None:
                held["codes"].append(chunk.splits)
    columns = {key: np.concatenate(column) for key, column in held.items() if column}
    require(len(columns.get("labels", ())) > 0, *NO_ROW)
    return StoredScores(
        stored,
        torch.from_numpy(columns["labels"]),
        torch.from_numpy(columns["predictions"]),
        columns.get("codes"),
        np.cumsum([0, *rows.values()])[:-1],
        stored.left_out_lines(counted),
    )


def _asked_for(stored: StoredEmbeddings) -> list[bool]:
    """Whether the scores of each part are read: unless it is training rows alone, whose predictions are stored."""
    if stored.kind == "probabilities" or not {"predictions", "splits"} <= stored.reader.keys:
        return [True] * len(stored.parts)
    asked = {part.first: False for part in stored.parts}
    for piece in stored.reader.pieces(stored.parts, ("labels", "predictions", "splits")):
        _, predicted, known = stored.classes.numbers(piece.columns["labels"], piece.columns["predictions"])
        assert predicted is not None
        other = split_codes(piece.columns["splits"]) != SPLITS.index("train")
        asked[piece.part.first] |= bool((other | (known & (predicted < 0))).any())
    return list(asked.values())


def _highest(chunk: Chunk) -> Array:  # (n,)
    """The class of the highest score; -1 where the scores are not finite or were not read."""
    if chunk.scores is None:
        return np.full(len(chunk), -1, dtype=np.int64)
    scores = torch.from_numpy(chunk.scores)
    return scores.argmax(1).where(scores.isfinite().all(1), -1).numpy()


def read_scores(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    kind: Kind | None = None,
    embedding: str | None = None,
    label: str | None = None,
) -> ScoreTable:
    """Read stored scores.

    - **Parquet** and **Arrow**, a file or a folder, as `bisector embed` writes it, with or without the vectors: see
      `bisector.data.tables.read_embeddings`; probabilities in it become logits by their logarithm.
    - **npz**: `scores`, `logits` or `probabilities`; `labels` (or `y`), `splits`, `class_names` and `embeddings` if
      they are there; see `bisector.data.tables.columns.ALIASES`.
    - **npy**: the scores alone.

    What is called "scores" is taken for probabilities where no number is negative and every row sums to 1, else for
    logits; `told` says which.

    Args:
        path: of the file or folder.
        labels: an .npy with the labels, for scores that have none beside them.
        kind: what the scores are; None for what their name says, or their rows.
        embedding: name of the column of vectors, where the usual ones do not find it.
        label: name of the labels, in a table or an archive.

    Raises:
        ArgumentError: there are no scores in it, or they do not fit.
        OSError: the file cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _ARRAYS:
        stored = _open_table(path, labels, kind, embedding, label)
        return replace(scores_of(whole_table(stored)), told=_told(stored), columns=stored.reader.columns_line)
    require(embedding is None, "--embedding", f"{path} beside it", "none beside arrays of scores")
    require(
        label is None or (suffix == ".npz" and labels is None),
        "--label",
        f"{'--labels' if labels else path} beside it",
        "the name of an array in an .npz, or of a column",
    )
    arrays = {"scores": load_array(path)} if suffix == ".npy" else load_archive(path)
    name, scores = find(arrays, "scores")
    if scores is None:
        raise ArgumentError(f"scores: got {path} with {', '.join(arrays)}; expected 'scores'")
    floating = scores.ndim == 2 and np.issubdtype(scores.dtype, np.floating)
    require(floating, "scores", f"{scores.dtype} of shape {scores.shape}", "floating numbers (N, C)")
    found, told = kind_of_scores(name, scores, kind)
    names = class_names_in(arrays)
    classes = None
    if labels is not None:
        column: Array | None = load_array(Path(labels))
    elif label is not None:
        column = arrays[require_member(path, arrays, [label])]
    else:
        column = find(arrays, "labels")[1]
    if column is not None:
        column = one_each("labels", column)
        require(len(column) == len(scores), "labels", f"{len(column)} rows", f"{len(scores)}, as scores")
        classes = _classes(column, names, scores.shape[1])
    splits = find(arrays, "splits")[1]
    vectors = find(arrays, "embeddings")[1]
    if vectors is not None:
        floating = vectors.ndim == 2 and np.issubdtype(vectors.dtype, np.floating)
        got = f"{vectors.dtype} of shape {vectors.shape}"
        require(floating, "embeddings", got, "floating numbers (N, D)")
        vectors = vectors.astype(np.promote_types(vectors.dtype, np.float32))
    return ScoreTable(
        torch.from_numpy(scores.astype(np.promote_types(scores.dtype, np.float32))),
        found,
        tuple(map(str, range(scores.shape[1]))) if names is None else names,
        classes,
        None if splits is None else [SPLITS[code] for code in split_codes(splits).tolist()],
        vectors=None if vectors is None else torch.from_numpy(vectors),
        told=told,
        adjusted=_text(arrays, "adjusted"),
        head=_head(_text(arrays, "head")),
    )


def require_same_classes(name: str, class_names: Sequence[str], expected: Sequence[str]) -> None:
    """Raise `ArgumentError` unless these are the classes of the scores, in the same order; naming the first other.

    >>> require_same_classes("--validation", ["cat", "dog"], ["cat", "owl"])
    Traceback (most recent call last):
    bisector.errors.ArgumentError: --validation: got 'dog' as class 1; expected 'owl', as the scores have
    """
    rows, wanted = len(class_names), len(expected)
    require(rows == wanted, name, f"{rows} classes", f"the {wanted} of the scores, in their order")
    for number, (one, other) in enumerate(zip(class_names, expected, strict=True)):
        require(one == other, name, f"{one!r} as class {number}", f"{other!r}, as the scores have")


def _open_table(
    path: Path, labels: object, kind: Kind | None, embedding: str | None, label: str | None
) -> StoredEmbeddings:
    require(labels is None, "--labels", labels, "none beside a table that has its own")
    stored = open_embeddings(
        path, embedding=embedding, label=label, kind=kind, vectors_needed=False, at_once=True
    )
    if stored.num_scores is None:
        raise ArgumentError(
            f"scores: got {path} without them; expected a column 'scores' or a column a class (prob_cat), of all "
            "classes: `bisector embed RUN` writes them"
        )
    return stored


def _told(stored: StoredEmbeddings) -> str:
    return stored.kind_reason + "; taken by their logarithm" * (stored.kind == "probabilities")


def scores_of(table: EmbeddingTable) -> ScoreTable:
    """The scores of a table of embeddings that has some, which are logits.

    >>> table = EmbeddingTable(torch.eye(2), torch.tensor([0, 1]), ("cat", "dog"), scores=torch.eye(2))
    >>> scores_of(table).kind
    'logits'
    """
    if table.scores is None:
        raise ArgumentError("scores: got a table without them; expected one number a class")
    return ScoreTable(
        table.scores,
        "logits",
        table.class_names,
        table.labels,
        table.splits,
        embeddings=table,
        vectors=table.embeddings if table.embeddings.shape[1] else None,
        adjusted=table.adjusted,
        head=table.head,
    )


def _text(arrays: Mapping[str, Array], key: str) -> str:
    """What `adjust` wrote into an .npz by this name; empty where it is not there."""
    return str(arrays[key]) if key in arrays and arrays[key].ndim == 0 else ""


def _head(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), dict):
            return found
    return {}


def _classes(column: Array, names: tuple[str, ...] | None, width: int) -> Tensor:  # (N,)
    text = column.dtype.kind not in "biufO"
    require(
        not text or names is not None, "labels", f"values of type {column.dtype}", "integers, or class_names"
    )
    seen = LabelValues()
    seen.add(column)
    return torch.from_numpy(seen.classes(names, width).numbers(column)[0])
