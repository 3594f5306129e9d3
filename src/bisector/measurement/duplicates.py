"""Examples that are there more than once, and those of them that lie on both sides of a split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bisector.data.embedding_columns import Array
from bisector.data.embeddings import EmbeddingTable
from bisector.errors import missing_extra

TOLERANCE = 1e-3
"""Largest distance of two embeddings that count as one, relative to the longer: a cosine of 0.9999995."""

FEWEST_DIMENSIONS = 16
"""Below this many dimensions only equal vectors count: points of few dimensions lie near each other by chance."""

_PROJECTED = 8  # dimensions of the search tree
_MOST_PAIRS = 50_000_000  # a gigabyte
_MOST_SHOWN = 20  # rows of a group that are named


@dataclass(frozen=True)
class Group:
    """Rows whose embeddings are the same.

    Args:
        size: number of rows.
        rows: the first 20 of them, ascending.
        names: where they come from.
        classes: their classes.
        splits: their splits; empty without splits.
        across_splits: whether they lie in more than one split.
        labels_differ: whether they have more than one class.
    """

    size: int
    rows: list[int]
    names: list[str]
    classes: list[str]
    splits: list[str]
    across_splits: bool
    labels_differ: bool


@dataclass(frozen=True)
class Duplicates:
    """The groups of equal rows, those across splits first, then those whose labels differ, then the largest.

    Args:
        groups: of two rows or more.
        rows: how many rows lie in a group.
        leaked: rows of test and validation whose example is in another split too, earlier in the order train,
            validation, test.
        zero: rows whose embedding is zero, which are not compared.
    """

    groups: list[Group]
    rows: int
    leaked: int
    zero: int


def find_duplicates(table: EmbeddingTable, tolerance: float = TOLERANCE) -> Duplicates:
    """Find embeddings that are the same up to rounding.

    Two rows are the same if `|x - y| <= tolerance * max(|x|, |y|)`, or by a chain of such rows. The same picture
    through the same network differs by rounding alone, about 1e-6, whatever the batch or the device; a picture that
    was compressed or cut anew differs by far more than 1e-3, and is not found. A network that maps all examples of
    a class to one point makes duplicates of them: then this says something about the network. Where that leaves too
    many pairs to look at, only equal vectors count.

    No pair is missed and no N x N matrix is built: rows that are near each other are near in any projection, so
    candidates come from a tree over the 8 directions with most variance and are checked in all dimensions. About
    N log N while few rows are the same.

    Args:
        table: of embeddings.
        tolerance: relative distance.

    Raises:
        MissingExtraError: without scipy.

    >>> import torch
    >>> x = torch.randn(5, 16)
    >>> same = EmbeddingTable(torch.cat([x, x[:1]]), torch.zeros(6, dtype=torch.long), ("a",))
    >>> [group.rows for group in find_duplicates(same).groups]
    [[0, 5]]
    """
    x = table.embeddings.numpy()
    lengths = np.linalg.norm(x, axis=1)
    compared = np.flatnonzero(lengths > 0)
    parent = _components(x[compared], lengths[compared], tolerance)
    order = np.argsort(parent, kind="stable")
    starts = np.flatnonzero(np.diff(parent[order], prepend=-1))
    members = [compared[rows] for rows in np.split(order, starts[1:]) if len(rows) > 1] if len(order) else []
    splits = table.splits
    groups = [_group(table, rows) for rows in members]
    groups.sort(
        key=lambda group: (not group.across_splits, not group.labels_differ, -group.size, group.rows[0])
    )
    return Duplicates(
        groups=groups,
        rows=sum(group.size for group in groups),
        leaked=0 if splits is None else sum(_leaked(rows, splits) for rows in members),
        zero=len(x) - len(compared),
    )


def _components(x: Array, lengths: Array, tolerance: float) -> Array:  # (N, D), (N,) -> (N,)
    """The number of the group of every row."""
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
        from scipy.spatial import cKDTree
    except ImportError:
        raise missing_extra("scipy", "measure") from None
    if not len(x):
        return np.empty(0, dtype=np.int64)
    contiguous = np.ascontiguousarray(x) + np.float32(0)  # -0 is 0
    keys = contiguous.view(np.dtype((np.void, contiguous.dtype.itemsize * contiguous.shape[1]))).ravel()
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    if x.shape[1] < FEWEST_DIMENSIONS or len(first) < 2:
        return group
    unique, norms = contiguous[first].astype(np.float64), lengths[first].astype(np.float64)
    radius = 2 * tolerance + 1e-9  # the distance of two such rows at unit length, and its rounding
    units = unique / norms[:, None]
    tree = cKDTree(_projected(units))
    if tree.count_neighbors(tree, radius) > _MOST_PAIRS:
        return group
    pairs = tree.query_pairs(radius, output_type="ndarray")
    kept = [
        _near(unique, norms, block, tolerance) for block in np.array_split(pairs, max(1, len(pairs) // 20000))
    ]
    left, right = np.concatenate(kept).T
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(len(first), len(first)))
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[group], dtype=np.int64)


def _projected(units: Array) -> Array:  # (N, D) -> (N, 8)
    centred = units - units.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    projected: Array = centred @ directions[:, -_PROJECTED:]
    return projected


def _near(x: Array, lengths: Array, pairs: Array, tolerance: float) -> Array:
    left, right = pairs.T
    distance = np.linalg.norm(x[left] - x[right], axis=1)
    near: Array = pairs[distance <= tolerance * np.maximum(lengths[left], lengths[right])]
    return near


def _group(table: EmbeddingTable, rows: Array) -> Group:
    labels = table.labels[rows].tolist()
    splits = [] if table.splits is None else [table.splits[row] for row in rows]
    shown = [int(row) for row in rows[:_MOST_SHOWN]]
    return Group(
        size=len(rows),
        rows=shown,
        names=[table.name(row) for row in shown],
        classes=[table.class_names[label] for label in labels[:_MOST_SHOWN]],
        splits=splits[:_MOST_SHOWN],
        across_splits=len(set(splits)) > 1,
        labels_differ=len(set(labels)) > 1,
    )


def _leaked(rows: Array, splits: Sequence[str]) -> int:
    ranks = [("train", "validation", "test").index(splits[row]) for row in rows]
    return sum(rank > min(ranks) for rank in ranks)


def cosine_of(tolerance: float) -> float:
    """The smallest cosine of two vectors of one length that count as the same.

    >>> round(1 - cosine_of(1e-3), 10)
    5e-07
    """
    return math.cos(2 * math.asin(tolerance / 2))
