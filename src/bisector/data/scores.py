"""Stored scores: what a trained model said of each example, with or without its embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from bisector.data.embeddings import EmbeddingTable, read_embeddings
from bisector.errors import ArgumentError, require

Kind: TypeAlias = Literal["logits", "probabilities"]

_SCORES: tuple[tuple[str, Kind], ...] = (
    ("scores", "logits"),
    ("logits", "logits"),
    ("probabilities", "probabilities"),
)
_LABELS = ("labels", "y", "label")


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores with what is known of their rows.

    Args:
        scores: (N, C) floating.
        kind: what they are: "logits" or "probabilities".
        class_names: of the columns.
        labels: (N,) integers from 0 to C - 1.
        splits: "train", "validation" or "test" for each row.
        embeddings: the table they come from, if they come from one.

    Raises:
        ArgumentError: the columns do not fit each other, or a label is not a class.
    """

    scores: Tensor  # (N, C)
    kind: Kind
    class_names: tuple[str, ...]
    labels: Tensor | None = None  # (N,)
    splits: list[str] | None = None
    embeddings: EmbeddingTable | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.scores.shape)
        classes = len(self.class_names)
        fits = len(shape) == 2 and shape[1] == classes
        require(fits, "scores", f"shape {shape}", f"(N, {classes}), a column a class")
        for name in ("labels", "splits"):
            column = getattr(self, name)
            rows = shape[0] if column is None else len(column)
            require(rows == shape[0], name, f"{rows} rows", f"{shape[0]}, as scores")
        if self.labels is not None:
            wrong = self.labels[(self.labels < 0) | (self.labels >= classes)]
            require(not len(wrong), "labels", wrong[:3].tolist(), f"classes from 0 to {classes - 1}")

    def __len__(self) -> int:
        return len(self.scores)

    def rows_of(self, split: str) -> Tensor:  # (M,)
        """The positions of a split; none where the table has no splits."""
        return torch.tensor([row for row, name in enumerate(self.splits or ()) if name == split]).long()


def read_scores(
    path: str | Path, *, labels: str | Path | None = None, kind: Kind | None = None
) -> ScoreTable:
    """Read stored scores.

    - **Parquet**, a file or a folder, as `bisector embed` writes it: see
      `bisector.data.embeddings.read_embeddings`; probabilities in it become logits by their logarithm.
    - **npz**: `scores`, `logits` or `probabilities`; `labels` (or `y`), `splits` and `class_names` if they are
      there.
    - **npy**: the scores alone.

    Args:
        path: of the file or folder.
        labels: an .npy with the labels, for scores that have none beside them.
        kind: what the scores of an npz or npy are; None for what their name says, logits if it is only "scores".

    Raises:
        ArgumentError: there are no scores in it, or they do not fit.
        OSError: the file cannot be read.
    """
    path = Path(path)
    if path.suffix == ".npy":
        arrays: dict[str, Any] = {"scores": _load(path)}
    elif path.suffix == ".npz":
        arrays = _load(path)
    else:
        require(labels is None, "--labels", labels, "none beside a table that has its own")
        table = read_embeddings(path)
        if table.scores is None:
            raise ArgumentError(
                f"scores: got {path} without them; expected a column 'scores', one number a class"
            )
        return ScoreTable(table.scores, "logits", table.class_names, table.labels, table.splits, table)
    key, usual = next(((k, kind_) for k, kind_ in _SCORES if k in arrays), (None, None))
    if key is None or usual is None:
        raise ArgumentError(f"scores: got {path} with {', '.join(arrays)}; expected 'scores'")
    scores = arrays[key]
    floating = scores.ndim == 2 and np.issubdtype(scores.dtype, np.floating)
    require(floating, "scores", f"{scores.dtype} of shape {scores.shape}", "floating numbers (N, C)")
    names = arrays.get("class_names", np.arange(scores.shape[1]))
    found = next((arrays[name] for name in _LABELS if name in arrays), None)
    found = _load(Path(labels)) if labels is not None else found
    if found is not None:
        whole = found.ndim == 1 and np.issubdtype(found.dtype, np.integer)
        require(whole, "labels", f"{found.dtype} of shape {found.shape}", "integers (N,)")
    splits = next((arrays[name] for name in ("splits", "split") if name in arrays), None)
    return ScoreTable(
        torch.from_numpy(scores.astype(np.promote_types(scores.dtype, np.float32))),
        kind or usual,
        tuple(map(str, names)),
        None if found is None else torch.from_numpy(found.astype(np.int64)),
        None if splits is None else [str(split) for split in splits],
    )


def require_same_classes(name: str, table: ScoreTable, class_names: Sequence[str]) -> None:
    """Raise `ArgumentError` unless the columns are those of other scores, in the same order."""
    same = table.class_names == tuple(class_names)
    require(
        same,
        name,
        f"{len(table.class_names)} classes",
        f"the {len(class_names)} of the scores, in their order",
    )


def _load(path: Path) -> Any:
    """An array, or of an .npz a dict of them."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if path.suffix == ".npz":
            return {name: loaded[name] for name in loaded.files}
        return loaded[...]  # an .npz by another name has no such thing
    except (ValueError, EOFError, AttributeError, KeyError, BadZipFile) as error:
        raise ArgumentError(f"path: got {path}; expected a readable {path.suffix} file ({error})") from None
