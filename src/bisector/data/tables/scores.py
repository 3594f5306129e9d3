"""Stored scores: what a trained model said of each example, with or without its embeddings."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bisector.data.tables.arrays import class_names_in, find, load_archive, load_array, require_member
from bisector.data.tables.classes import LabelValues
from bisector.data.tables.columns import SPLITS, Array, Kind, kind_of_scores, one_each, split_codes
from bisector.data.tables.dataset import open_embeddings
from bisector.data.tables.embedding_table import EmbeddingTable, whole_table
from bisector.errors import ArgumentError, require


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

    def rows_of(self, split: str) -> Tensor:  # (M,)
        """The positions of a split; none where the table has no splits."""
        return torch.tensor([row for row, name in enumerate(self.splits or ()) if name == split]).long()


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
    if suffix not in {".npy", ".npz"}:
        require(labels is None, "--labels", labels, "none beside a table that has its own")
        return _of_table(path, kind, embedding, label)
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


def _of_table(path: Path, kind: Kind | None, embedding: str | None, label: str | None) -> ScoreTable:
    stored = open_embeddings(
        path, embedding=embedding, label=label, kind=kind, vectors_needed=False, at_once=True
    )
    if stored.num_scores is None:
        raise ArgumentError(
            f"scores: got {path} without them; expected a column 'scores', one number a class"
        )
    told = stored.kind_reason + ("; taken by their logarithm" if stored.kind == "probabilities" else "")
    return replace(scores_of(whole_table(stored)), told=told, columns=stored.reader.columns_line)


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
