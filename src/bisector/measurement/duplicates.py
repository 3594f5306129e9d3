"""Examples that are there more than once, and those of them that lie on both sides of a split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import torch

from bisector.data.tables import EmbeddingTable
from bisector.data.tables.columns import SPLITS, Array
from bisector.errors import missing_extra
from bisector.statistics.directions import unit_rows

TOLERANCE = 1e-3
"""Largest distance of two embeddings that count as one, relative to the longer: a cosine of 0.9999995."""

FEWEST_DIMENSIONS = 16
"""Below this many dimensions only equal vectors count: points of few dimensions lie near each other by chance."""

PRINT_BYTES = 128
"""Bytes a row that finding duplicates takes at most, beside the vectors that are near each other."""

_POINT = 10  # tolerances from the middle of a class within which half of its rows make it one point
_FEWEST_OF_A_POINT = 10  # rows; fewer that are the same may be so many copies
_PROJECTED = 8  # dimensions of the search tree
_MOST_PAIRS = 50_000_000  # a gigabyte
_COUNTED = 2**15  # rows whose neighbours are counted
_MOST_SHOWN = 20  # rows of a group that are named
_NO_SPLIT = 255
_ROWS = 65536  # looked at together
_MANY_NEAR = (
    "Too many rows lie near each other to compare all of them: only equal vectors count as duplicates."
)


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
        held_out: rows of validation and test; None without splits.
        classes: that have a row.
        notes: what was not compared, or is not listed, and why.
    """

    groups: list[Group]
    rows: int
    leaked: int
    zero: int
    points: list[str] = field(default_factory=list)
    held_out: int | None = None
    classes: int = 0
    notes: list[str] = field(default_factory=list)


class Prints:
    """What finding duplicates needs of every row but its vector: 45 bytes, which say what may be the same.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        directions = np.random.default_rng(0).normal(size=(dim, min(dim, _PROJECTED)))
        self._directions = np.linalg.qr(directions)[0].astype(np.float32)
        self.digests: Array = np.empty(0, dtype=np.uint64)  # (N,) of the bytes of each vector
        self.projected: Array = np.empty(
            (0, self._directions.shape[1]), dtype=np.float32
        )  # (N, 8) unit vectors, seen
        self.labels: Array = np.empty(
            0, dtype=np.int32
        )  # (N,)   from a few directions, the same for all rows
        self.splits: Array = np.empty(0, dtype=np.uint8)  # (N,)
        self._added: list[tuple[Array, ...]] = []

    def add(self, embeddings: Array, labels: Array, splits: Array | None) -> None:
        """Take in rows (n, D) with their classes and splits, after those that came before."""
        if not len(labels):
            return
        clean = np.ascontiguousarray(embeddings) + np.float32(0)  # -0 is 0
        self._added.append(
            (
                _digests(clean),
                self._projected(clean),
                labels.astype(np.int32),
                np.full(len(labels), _NO_SPLIT, np.uint8) if splits is None else splits.astype(np.uint8),
            )
        )

    def merge(self, other: "Prints") -> None:
        """Take in what another took of the rows that follow."""
        self._added.append(other.settled())

    def settled(self) -> tuple[Array, Array, Array, Array]:
        """Digests, projected, labels and splits of all rows, in their order."""
        if self._added:
            held = [(self.digests, self.projected, self.labels, self.splits), *self._added]
            self.digests, self.projected, self.labels, self.splits = map(
                np.concatenate, zip(*held, strict=True)
            )
            self._added = []
        return self.digests, self.projected, self.labels, self.splits

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The arrays as tensors, which `torch.load(weights_only=True)` reads."""
        digests, projected, labels, splits = map(torch.from_numpy, self.settled())
        return {"digests": digests, "projected": projected, "labels": labels, "splits": splits}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state_dict` returned."""
        self._added = []
        names = ("digests", "projected", "labels", "splits")
        self.digests, self.projected, self.labels, self.splits = (state[name].numpy() for name in names)

    def zero(self) -> Array:  # (N,) bool
        """Which vectors are zero."""
        zero: Array = self.settled()[0] == _digests(np.zeros((1, self.dim), dtype=np.float32))
        return zero

    def _projected(self, x: Array) -> Array:  # (n, D) -> (n, 8)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            lengths = np.linalg.norm(x, axis=1, keepdims=True)
            projected: Array = (x @ self._directions) / lengths
        far = np.flatnonzero(
            ~((lengths > 1e-15) & (lengths < 1e15))[:, 0]
        )  # squares leave the range of float32
        if len(far):
            projected[far] = unit_rows(torch.from_numpy(x[far])).numpy() @ self._directions
        return projected


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
    candidates come from a tree over 8 random directions and are checked in all dimensions. About N log N while few
    rows are the same.

    Args:
        table: of embeddings.
        tolerance: relative distance.

    Raises:
        MissingExtraError: without scipy.

    >>> x = torch.randn(5, 16)
    >>> same = EmbeddingTable(torch.cat([x, x[:1]]), torch.zeros(6, dtype=torch.long), ("a",))
    >>> [group.rows for group in find_duplicates(same).groups]
    [[0, 5]]
    """
    x = table.embeddings.numpy()
    prints = Prints(x.shape[1])
    labels, splits = table.labels.numpy(), table.split_codes
    for start in range(0, len(table), _ROWS):
        rows = slice(start, start + _ROWS)
        prints.add(x[rows], labels[rows], None if splits is None else splits[rows])
    return duplicates_of(
        prints,
        table.class_names,
        vectors=lambda rows: x[rows],
        names=lambda rows: [table.name(row) for row in rows],
        tolerance=tolerance,
    )


def duplicates_of(
    prints: Prints,
    class_names: Sequence[str],
    *,
    vectors: Callable[[Array], Array],
    names: Callable[[list[int]], list[str]],
    tolerance: float = TOLERANCE,
    most_vectors: int | None = None,
    most_groups: int | None = None,
) -> Duplicates:
    """The same of rows that lie elsewhere; see `find_duplicates`.

    Args:
        prints: of all rows.
        class_names: of the C classes.
        vectors: gives those of some rows, ascending, in float32: of rows that may be near each other, and of
            classes that may be one point.
        names: gives those of some rows.
        tolerance: relative distance.
        most_vectors: that may be asked for at once. Where more rows may be near each other only equal vectors
            count, and of classes that may be one point so many rows are looked at, evenly; None for any number.
        most_groups: that are listed; None for all.
    """
    _, _, labels, splits = prints.settled()
    zero = prints.zero()
    compared = np.flatnonzero(~zero)
    point = _points(prints, compared, len(class_names), vectors, tolerance, most_vectors)
    component, notes = _components(prints, compared, point, vectors, tolerance, most_vectors)
    order = np.argsort(component, kind="stable")
    rows, starts = compared[order], np.flatnonzero(np.diff(component[order], prepend=-1))
    sizes = np.diff(starts, append=len(rows))
    of, where = labels[rows], splits[rows]
    earliest = np.minimum.reduceat(where, starts)
    across = earliest < np.maximum.reduceat(where, starts)
    differ = np.minimum.reduceat(of, starts) < np.maximum.reduceat(of, starts)
    later = np.add.reduceat(where > np.repeat(earliest, sizes), starts, dtype=np.int64)
    counts = np.bincount(labels, minlength=len(class_names))
    for k in np.flatnonzero(across & np.logical_or.reduceat(point[of], starts)):
        present, times = np.unique(of[starts[k] : starts[k] + sizes[k]], return_counts=True)
        if np.any(point[present] & (2 * times >= counts[present])):  # most of a class that is one point
            later[k] = 0
    ranked = np.lexsort((rows[starts], -sizes, ~differ, ~across))
    ranked = ranked[sizes[ranked] > 1]
    if most_groups is not None and len(ranked) > most_groups:
        notes.append(f"Of {len(ranked):,} groups of duplicates {most_groups:,} are listed.")
    ends = starts + np.minimum(sizes, _MOST_SHOWN)
    shown = [(k, rows[starts[k] : ends[k]].tolist()) for k in ranked[:most_groups].tolist()]
    wanted = sorted(row for _, held in shown for row in held)
    name_of = dict(zip(wanted, names(wanted), strict=True))
    has_splits = bool(len(splits)) and splits[0] != _NO_SPLIT
    return Duplicates(
        groups=[
            Group(
                size=int(sizes[k]),
                rows=held,
                names=[name_of[row] for row in held],
                classes=[class_names[labels[row]] for row in held],
                splits=[SPLITS[splits[row]] for row in held] if has_splits else [],
                across_splits=bool(across[k]),
                labels_differ=bool(differ[k]),
            )
            for k, held in shown
        ],
        rows=int(sizes[ranked].sum()),
        leaked=int(later.sum()),
        zero=int(zero.sum()),
        points=[class_names[c] for c in np.flatnonzero(point).tolist()],
        held_out=int((splits > 0).sum()) if has_splits else None,
        classes=int((counts > 0).sum()),
        notes=notes,
    )


def _digests(clean: Array) -> Array:  # (n, D) -> (n,) uint64
    """64 bits of a hash of each vector: that two of a hundred million agree by chance is 3 in 10,000."""
    size, content = clean.itemsize * clean.shape[1], memoryview(clean.data).cast("B")
    held = b"".join(
        blake2b(content[at : at + size], digest_size=8).digest() for at in range(0, size * len(clean), size)
    )
    return np.frombuffer(held, dtype=np.uint64).copy()


def _points(
    prints: Prints,
    compared: Array,
    classes: int,
    vectors: Callable[[Array], Array],
    tolerance: float,
    most_vectors: int | None,
) -> Array:  # (C,) bool
    """Whether a class is one point, or nearly."""
    _, projected, labels, _ = prints.settled()
    order = compared[np.argsort(labels[compared], kind="stable")]
    of_class = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    # From a few directions a class looks smaller: up to three times what is to be expected of it may be seen.
    seen = min(4, 12 * np.sqrt(projected.shape[1] / prints.dim)) * _POINT * tolerance
    maybe = [
        rows
        for rows in of_class
        if len(rows) >= _FEWEST_OF_A_POINT and np.median(_away(projected[rows])) <= seen
    ]
    if most_vectors is not None and maybe:
        most = max(_FEWEST_OF_A_POINT, most_vectors // len(maybe))
        maybe = [rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)] for rows in maybe]
    point = np.zeros(classes, dtype=bool)
    wanted = np.sort(np.concatenate(maybe)) if maybe else compared[:0]
    x = vectors(wanted) if len(wanted) else np.empty((0, prints.dim))
    for rows in maybe:
        units = unit_rows(torch.from_numpy(x[np.searchsorted(wanted, rows)])).numpy()
        point[labels[rows[0]]] = np.median(_away(units)) <= _POINT * tolerance
    return point


def _away(points: Array) -> Array:  # (n, D) -> (n,)
    """The distance of each from the median of each coordinate."""
    away: Array = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    return away


def _components(
    prints: Prints,
    compared: Array,  # (N,)
    point: Array,  # (C,)
    vectors: Callable[[Array], Array],
    tolerance: float,
    most_vectors: int | None,
) -> tuple[Array, list[str]]:  # (N,)
    """The number of the group of every row: equal ones, and near ones of classes that are no point. And notes."""
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
        from scipy.spatial import cKDTree
    except ImportError:
        raise missing_extra("scipy", "measure") from None
    digests, projected, labels, _ = prints.settled()
    _, first, group = np.unique(digests[compared], return_index=True, return_inverse=True)
    distinct = compared[first]
    loose = np.flatnonzero(~point[labels[distinct]])  # of equal rows, the first decides
    loose = loose[np.argsort(distinct[loose])]
    if prints.dim < FEWEST_DIMENSIONS or len(loose) < 2:
        return group, []
    radius = 2 * tolerance + 1e-6  # the distance of two such rows at unit length, and its rounding
    points = projected[distinct[loose]].astype(np.float64)
    tree = cKDTree(points, balanced_tree=False)
    some = points[:: -(-len(points) // _COUNTED)]  # to count the pairs of all takes as long as to find them
    if tree.count_neighbors(cKDTree(some), radius) * len(points) / len(some) > _MOST_PAIRS:
        return group, [_MANY_NEAR]
    pairs = tree.query_pairs(radius, output_type="ndarray")
    near = np.unique(pairs)
    if not len(near):
        return group, []
    if most_vectors is not None and len(near) > most_vectors:
        return group, [_MANY_NEAR]
    x = vectors(distinct[loose[near]])
    kept = [
        _within(x, block, tolerance)
        for block in np.array_split(np.searchsorted(near, pairs), max(1, len(pairs) // 20000))
    ]
    left, right = loose[near[np.concatenate(kept)]].T
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(len(first), len(first)))
    return np.asarray(connected_components(graph, directed=False)[1][group], dtype=np.int64), []


def _within(x: Array, pairs: Array, tolerance: float) -> Array:
    """Those of these pairs that are near each other in all dimensions."""
    left, right = x[pairs[:, 0]].astype(np.float64), x[pairs[:, 1]].astype(np.float64)
    lengths = np.maximum(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))
    near: Array = pairs[np.linalg.norm(left - right, axis=1) <= tolerance * lengths]
    return near
