"""The same number of random rows of every class, drawn while rows stream by in any order."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
_GOLDEN = 0x9E3779B97F4A7C15


class DrawState(TypedDict):
    """What `EqualDraw.state_dict` returns."""

    rows: Tensor
    labels: Tensor
    embeddings: Tensor


class EqualDraw:
    """Keeps `count` random rows of every class, or all of a class that has fewer.

    Every row has a priority, a hash of the seed and of its number in the data, and each class keeps the rows
    of lowest priority. That is a draw without replacement, and it does not matter who sees which rows, or when.

    Source: bottom-k sampling; Cohen and Kaplan, PODC 2007. The hash is the last step of SplitMix64 (Steele, Lea and
    Flood, OOPSLA 2014), one to one on 64-bit numbers: no two rows are tied.

    Args:
        count: rows of a class, at least 1.
        dim: D.
        seed: of the draw.

    >>> draw = EqualDraw(2, dim=1)
    >>> draw.add(np.arange(6), np.zeros(6, dtype=np.int64), np.arange(6, dtype=np.float32)[:, None])
    >>> len(draw.rows)
    2
    """

    def __init__(self, count: int, dim: int, seed: int = 0) -> None:
        self.count = count
        self.seed = seed
        self.rows: Rows = np.empty(0, dtype=np.int64)
        self.labels: Rows = np.empty(0, dtype=np.int64)
        self.embeddings: Vectors = np.empty((0, dim), dtype=np.float32)

    def add(
        self,
        rows: Rows,  # (n,)
        labels: Rows,  # (n,)
        embeddings: Vectors,  # (n, D)
    ) -> None:
        """Take in rows, each of which is seen once, by their number in the whole data set."""
        # Most of a late chunk cannot be among the first: only what can is copied.
        near = _first(rows, labels, self.count, self.seed)
        rows, labels = rows[near], labels[near]
        held = len(self.rows)
        both = np.concatenate([self.rows, rows]), np.concatenate([self.labels, labels])
        chosen = _first(*both, self.count, self.seed)
        new = chosen[chosen >= held] - held
        kept = np.zeros(held, dtype=bool)
        kept[chosen[chosen < held]] = True
        free = np.flatnonzero(~kept)  # never more than the new ones, which take their places
        taking, more = new[: len(free)], new[len(free) :]
        self.rows[free], self.labels[free] = rows[taking], labels[taking]
        self.embeddings[free] = embeddings[near[taking]]
        if len(more):
            self.rows = np.concatenate([self.rows, rows[more]])
            self.labels = np.concatenate([self.labels, labels[more]])
            self.embeddings = np.concatenate([self.embeddings, embeddings[near[more]]])

    def merge(self, other: "EqualDraw") -> None:
        """Take in what another drew of other rows, with the same count and seed."""
        self.add(other.rows, other.labels, other.embeddings)

    def of_full_classes(self, num_classes: int, count: int) -> tuple[Tensor, Tensor]:
        """The vectors (n, D) and labels (n,) of the classes that have `count` rows, by class and priority.

        Of a class that has more the first are taken: `count` is at most what the draw keeps.
        """
        order = _first(self.rows, self.labels, count, self.seed)
        labels = self.labels[order]
        full = (np.bincount(labels, minlength=num_classes) == count)[labels]
        return torch.from_numpy(self.embeddings[order[full]]), torch.from_numpy(labels[full])

    def state_dict(self) -> DrawState:
        """The rows as tensors, which `torch.load(weights_only=True)` reads."""
        return {
            "rows": torch.from_numpy(self.rows),
            "labels": torch.from_numpy(self.labels),
            "embeddings": torch.from_numpy(self.embeddings),
        }

    def load_state_dict(self, state: DrawState) -> None:
        """Take over what `state_dict` returned."""
        self.rows, self.labels = state["rows"].numpy(), state["labels"].numpy()
        self.embeddings = state["embeddings"].numpy()


def _first(rows: Rows, labels: Rows, count: int, seed: int) -> Rows:  # (n,), (n,) -> (m,)
    """The places of the `count` rows of lowest priority in each class, by class and priority."""
    order = np.lexsort((_priorities(rows, seed), labels))
    starts = np.searchsorted(labels[order], labels[order], side="left")
    first: Rows = order[np.arange(len(order)) - starts < count]
    return first


def _priorities(rows: Rows, seed: int) -> npt.NDArray[np.uint64]:
    """Hash of seed and row: the row-th number of SplitMix64 from a start that the seed gives."""
    start = _mixed(np.array([(seed + 1) * _GOLDEN % 2**64], dtype=np.uint64))
    return _mixed(start + (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN))


def _mixed(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
