"""Examples that are there more than once, and those of them that lie on both sides of a split."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bisector.data.tables import EmbeddingTable
from bisector.data.tables.columns import Array
from bisector.errors import missing_extra
from bisector.statistics.directions import unit_rows

TOLERANCE = 1e-3
"""Largest distance of two embeddings that count as one, relative to the longer: a cosine of 0.9999995."""

FEWEST_DIMENSIONS = 16
"""Below this many dimensions only equal vectors count: points of few dimensions lie near each other by chance."""

_POINT = 10  # tolerances from the middle of a class within which half of its rows make it one point
_FEWEST_OF_A_POINT = 10  # rows; fewer that are the same may be so many copies
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
            validation, test; without those of groups that hold most of a class that is one point.
        zero: rows whose embedding is zero, which are not compared.
        points: names of the classes that the network maps to one point, or nearly.
    """

    groups: list[Group]
    rows: int
    leaked: int
    zero: int
    points: list[str] = field(default_factory=list)


def find_duplicates(table: EmbeddingTable, tolerance: float = TOLERANCE) -> Duplicates:
    """Find embeddings that are the same up to rounding.

    Two rows are the same if `|x - y| <= tolerance * max(|x|, |y|)`, or by a chain of such rows. The same picture
    through the same network differs by rounding alone, about 1e-6, whatever the batch or the device; a picture that
    was compressed or cut anew differs by far more than 1e-3, and is not found.

    A network that maps a class to one point makes all its examples the same: that says something about the network,
    nothing about the examples. A class of 10 rows or more is one point if half of them lie within 10 tolerances of
    its middle (the median of each coordinate of its unit embeddings). Of its rows only equal vectors are the same,
    and not even they are leaked if they are most of it. Where too many pairs are left to look at, again only equal
    vectors count.

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
    lengths = torch.linalg.vector_norm(table.embeddings, dim=1, dtype=torch.float64).numpy()
    compared = np.flatnonzero(lengths > 0)
    labels = table.labels.numpy()
    point = _points(x, lengths, labels, table.num_classes, tolerance)
    parent = _components(x[compared], lengths[compared], ~point[labels[compared]], tolerance)
    order = np.argsort(parent, kind="stable")
    starts = np.flatnonzero(np.diff(parent[order], prepend=-1))
    members = [compared[rows] for rows in np.split(order, starts[1:]) if len(rows) > 1] if len(order) else []
    splits, counts = table.splits, table.counts.numpy()
    groups = [_group(table, rows) for rows in members]
    groups.sort(
        key=lambda group: (not group.across_splits, not group.labels_differ, -group.size, group.rows[0])
    )
    return Duplicates(
        groups=groups,
        rows=sum(group.size for group in groups),
        leaked=0
        if splits is None
        else sum(_leaked(rows, splits) for rows in members if not _is_a_point(labels[rows], counts, point)),
        zero=len(x) - len(compared),
        points=[table.class_names[c] for c in np.flatnonzero(point)],
    )


def _points(x: Array, lengths: Array, labels: Array, classes: int, tolerance: float) -> Array:  # (C,) bool
    """Whether a class is one point, or nearly."""
    point = np.zeros(classes, dtype=bool)
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        there = rows[lengths[rows] > 0]
        if len(there) >= _FEWEST_OF_A_POINT:
            units = unit_rows(torch.from_numpy(x[there])).numpy()
            away = np.linalg.norm(units - np.median(units, axis=0), axis=1)
            point[labels[there[0]]] = np.median(away) <= _POINT * tolerance
    return point


def _is_a_point(labels: Array, counts: Array, point: Array) -> bool:
    """Whether a group with these labels holds most of a class that is one point."""
    present, rows = np.unique(labels, return_counts=True)
    return bool(np.any(point[present] & (2 * rows >= counts[present])))


def _components(
    x: Array,  # (N, D)
    lengths: Array,  # (N,)
    loose: Array,  # (N,) bool
    tolerance: float,
) -> Array:  # (N,)
    """The number of the group of every row: of equal rows, and of near ones where both are loose."""
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
    unique, norms = contiguous[first].astype(np.float64), lengths[first]
    radius = 2 * tolerance + 1e-9  # the distance of two such rows at unit length, and its rounding
    units = unique / norms[:, None]
    some = np.flatnonzero(loose[first])  # of equal rows, the first decides
    if len(some) < 2:
        return group
    tree = cKDTree(_projected(units[some]))
    if tree.count_neighbors(tree, radius) > _MOST_PAIRS:
        return group
    pairs = some[tree.query_pairs(radius, output_type="ndarray")]
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
