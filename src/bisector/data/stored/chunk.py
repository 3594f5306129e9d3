"""A chunk: checked rows, their labels as classes and what the model said of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from bisector.data.embedding_columns import (
    Array,
    Kind,
    as_logits,
    floats,
    kind_of_scores,
    one_each,
    split_codes,
)
from bisector.data.label_classes import Classes
from bisector.data.stored.part import Part, Piece
from bisector.data.verdicts import verdicts

NO_LABEL = "no label"
NO_VECTOR = "its vector is missing or not finite"
NO_PREDICTION = "no prediction and no finite scores"


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows that have a label and a finite vector, in the order of the file.

    Args:
        part: that they are of.
        rows: (n,) int64, their numbers in the whole data set.
        embeddings: (n, D) float32.
        labels: (n,) int64, from 0 to C - 1.
        predictions: (n,) int64, -1 where there is none.
        losses: (n,) float32 in nats, NaN where there is none.
        splits: (n,) uint8, positions in `bisector.data.embedding_columns.SPLITS`.
        left_out: how many rows are not here, or not with all, and why.
    """

    part: Part
    rows: Array  # (n,)
    embeddings: Array  # (n, D)
    labels: Array  # (n,)
    predictions: Array | None  # (n,)
    losses: Array | None  # (n,)
    splits: Array | None  # (n,)
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.labels)


def make_chunk(piece: Piece, classes: Classes, kind: Kind, scores_name: str) -> Chunk:
    """Check the rows of a piece, and name their classes as the whole data set does.

    Args:
        piece: of the data set.
        classes: of the whole of it.
        kind: of its scores.
        scores_name: what they are called.

    Raises:
        ArgumentError: a row holds what it may not.
    """
    columns = piece.columns
    with np.errstate(over="ignore"):
        embeddings = np.asarray(columns["embeddings"], dtype=np.float32)
    labels, predictions, known = classes.numbers(columns["labels"], columns.get("predictions"))
    finite = finite_rows(embeddings)
    kept = np.flatnonzero(known & finite)
    losses = floats("losses", one_each("losses", columns["losses"])) if "losses" in columns else None
    splits = split_codes(columns["splits"]) if "splits" in columns else None
    scores = floats(scores_name, columns["scores"]) if "scores" in columns else None
    if scores is not None and kind == "probabilities":
        kind_of_scores(scores_name, scores, kind)  # raises where they are none
    rows = np.arange(piece.first, piece.first + len(labels))
    if len(kept) < len(labels):
        rows, embeddings, labels = rows[kept], embeddings[kept], labels[kept]
        predictions = None if predictions is None else predictions[kept]
        losses = None if losses is None else losses[kept]
        scores = None if scores is None else scores[kept]
        splits = None if splits is None else splits[kept]
    if scores is not None:
        predicted, lost = verdicts(
            torch.from_numpy(as_logits(scores, kind)),
            torch.from_numpy(labels),
            None if predictions is None else torch.from_numpy(predictions),
            None if losses is None else torch.from_numpy(losses),
        )
        assert predicted is not None
        assert lost is not None
        predictions, losses = predicted.numpy(), lost.numpy()
    counted = {
        NO_LABEL: int((~known).sum()),
        NO_VECTOR: int((known & ~finite).sum()),
        NO_PREDICTION: 0 if predictions is None else int((predictions < 0).sum()),
    }
    left_out = {why: count for why, count in counted.items() if count}
    return Chunk(piece.part, rows, embeddings, labels, predictions, losses, splits, left_out)


def finite_rows(vectors: Array) -> Array:  # (n,)
    """Which rows of (n, D) float32 hold finite numbers alone, (n,) bool.

    >>> finite_rows(np.array([[3e38, 3e38], [np.nan, 1.0]], dtype=np.float32))
    array([ True, False])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = vectors.sum(axis=1)  # not a product: its threads would take the time of whoever uses the rows
    finite: Array = np.isfinite(sums)
    if (
        finite.all()
    ):  # no sum is finite that has a part which is not; and no array of (n, D) answers is needed
        return finite
    doubtful = np.flatnonzero(~finite)
    finite[doubtful] = np.isfinite(vectors[doubtful]).all(axis=1)
    return finite
