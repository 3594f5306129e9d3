"""The cosines of all pairs of embeddings, in order, without a matrix of all pairs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bisector.checks import require_embeddings
from bisector.errors import require, require_integer
from bisector.statistics.directions import unit_rows

EXACT_PAIRS = 50_000_000
"""Up to so many pairs every cosine is held by itself: 200 MB."""

STEPS = 2**20
"""Beyond, cosines are rounded to multiples of 1 / STEPS, about 1e-6, and counted."""

_BLOCK = 2048  # rows and columns of the matrix of cosines that are there at a time


@dataclass(frozen=True, eq=False)
class SortedScores:
    """Many scores, ascending, so that every question about a threshold is two or three look-ups.

    Args:
        values: (U,) floating, ascending, on the CPU.
        counts: (U,) int64 of at least 1, how often each value occurs; None for once each.
    """

    values: Tensor
    counts: Tensor | None = None

    @classmethod
    def of(cls, name: str, scores: Tensor) -> "SortedScores":
        """Sort a tensor of any shape; half precision becomes float32.

        Raises:
            ArgumentError: it is no floating tensor, or holds NaN.
        """
        require(isinstance(scores, Tensor), name, type(scores).__name__, "a tensor")
        require(scores.is_floating_point(), name, scores.dtype, "a floating dtype")
        precise = torch.promote_types(scores.dtype, torch.float32)
        values = scores.detach().to("cpu", precise, copy=True).flatten()
        require(not bool(values.isnan().any()), name, "NaN", "numbers")
        return cls._sorted(values)

    @classmethod
    def _sorted(cls, values: Tensor) -> "SortedScores":
        values.numpy().sort()  # in place: torch.sort would bring an index of twice the size
        return cls(values)

    @cached_property
    def total(self) -> int:
        """How many scores there are."""
        return len(self.values) if self.counts is None else int(self.counts.sum())

    @cached_property
    def _up_to(self) -> Tensor:  # (U + 1,): how many scores lie before each position
        assert self.counts is not None
        return torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    def to(self, dtype: torch.dtype) -> "SortedScores":
        """Return the same scores in a dtype that holds them exactly."""
        return SortedScores(self.values.to(dtype), self.counts)

    def above(self, thresholds: Tensor) -> Tensor:
        """Count the scores strictly above each threshold of the same dtype."""
        return self._from(torch.searchsorted(self.values, thresholds, right=True))

    def not_below(self, threshold: float) -> int:
        """Count the scores of at least a threshold, which need not be a number of their dtype."""
        lowest = self.values.new_tensor(threshold)
        if float(lowest) < threshold:  # rounded down: the next number up is the first that is accepted
            lowest = lowest.nextafter(lowest.new_tensor(math.inf))
        return int(self._from(torch.searchsorted(self.values, lowest)))

    def largest(self, ranks: Tensor) -> Tensor:
        """Return the score of each rank, 1 being the largest of all and `total` the smallest."""
        if self.counts is None:
            return self.values[self.total - ranks]
        return self.values[torch.searchsorted(self._up_to[1:], self.total - ranks + 1)]

    def next_above(self, value: float) -> float:
        """Return the smallest score strictly above a value; infinity where there is none."""
        position = int(torch.searchsorted(self.values, self.values.new_tensor([value]), right=True))
        return float(self.values[position]) if position < len(self.values) else math.inf

    def just_above(self, value: float) -> float:
        """Return the next number above a value of their dtype: it accepts all above, not the value."""
        start = self.values.new_tensor(value)
        return float(start.nextafter(start.new_tensor(math.inf)))

    def _from(self, positions: Tensor) -> Tensor:
        return self.total - (positions if self.counts is None else self._up_to[positions])


def pair_scores(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    *,
    exact_pairs: int = EXACT_PAIRS,
) -> tuple[SortedScores, SortedScores]:
    """The cosines of all genuine pairs (one class) and of all impostor pairs (two classes).

    Each of the N (N - 1) / 2 pairs counts once; an embedding of length 0 has cosine 0 with all others. The
    cosines are computed in float64, block by block, and kept in float32. Those of more than `exact_pairs` pairs
    are computed in float32, rounded to multiples of 2^-20 and counted, which takes 32 MB, however many they are.

    Args:
        embeddings: (N, D) finite, any floating dtype, on any device.
        labels: (N,) integers, any: the classes need not be those of any training.
        exact_pairs: up to how many pairs every cosine is held, 4 bytes each.

    Raises:
        ArgumentError: an argument is not as described.

    >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> [scores.values for scores in pair_scores(x, torch.tensor([7, 7, 9]))]
    [tensor([1.]), tensor([0., 0.])]
    """
    _require_pairs(embeddings, labels)
    require_integer("exact_pairs", exact_pairs, least=0)
    sizes = torch.unique(labels, return_counts=True)[1]
    pairs = len(labels) * (len(labels) - 1) // 2
    genuine_pairs = int((sizes * (sizes - 1) // 2).sum())
    if pairs > exact_pairs:
        return _counted(embeddings, labels)
    held = [torch.empty(size, device="cpu") for size in (genuine_pairs, pairs - genuine_pairs)]
    seen = [0, 0]
    for both in _pairs(embeddings, labels, torch.float64):
        for kind, cosines in enumerate(both):
            cosines.mul_(2**40).round_().div_(
                2**40
            )  # equal ones, above all those of 0, differ in their last bits
            end = seen[kind] + len(cosines)
            held[kind][seen[kind] : end] = cosines.clamp_(-1, 1)
            seen[kind] = end
    genuine, impostor = map(SortedScores._sorted, held)
    return genuine, impostor


def _counted(embeddings: Tensor, labels: Tensor) -> tuple[SortedScores, SortedScores]:
    counts = torch.zeros(2, 2 * STEPS + 1, dtype=torch.long, device=embeddings.device)
    for both in _pairs(embeddings, labels, torch.float32):
        for kind, cosines in enumerate(both):
            if len(cosines):
                steps = cosines.mul_(STEPS).round_().clamp_(-STEPS, STEPS).int().add_(STEPS)
                counts[kind] += torch.bincount(steps, minlength=2 * STEPS + 1)
    taken = [(total, total.nonzero().squeeze(1)) for total in counts.cpu()]
    genuine, impostor = (SortedScores(((at - STEPS) / STEPS).float(), total[at]) for total, at in taken)
    return genuine, impostor


def _require_pairs(embeddings: Tensor, labels: Tensor) -> None:
    require_embeddings("embeddings", embeddings)
    rows = len(embeddings)
    require(bool(embeddings.isfinite().all()), "embeddings", "NaN or infinity", "finite numbers")
    require(isinstance(labels, Tensor), "labels", type(labels).__name__, "a tensor")
    fits = labels.shape == (rows,)
    require(fits, "labels", f"shape {tuple(labels.shape)}", f"({rows},), one an embedding")
    integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    require(integer, "labels", labels.dtype, "an integer dtype")


def _pairs(embeddings: Tensor, labels: Tensor, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield genuine and impostor cosines, block by block, every pair once."""
    # Where the classes lie together, most blocks hold impostors alone and need no mask.
    order = labels.to(embeddings.device).argsort(stable=True)
    labels = labels.to(embeddings.device)[order]
    units = unit_rows(embeddings.double()).to(dtype)[order]
    nothing = units.new_empty(0)
    for first in range(0, len(units), _BLOCK):
        rows, row_labels = units[first : first + _BLOCK], labels[first : first + _BLOCK]
        for second in range(first, len(units), _BLOCK):
            column_labels = labels[second : second + _BLOCK]
            cosines = rows @ units[second : second + _BLOCK].T
            if second > first and row_labels[-1] < column_labels[0]:
                yield nothing, cosines.flatten()
                continue
            same = row_labels[:, None] == column_labels
            once = torch.ones_like(same).triu(1) if second == first else torch.ones_like(same)
            yield cosines[same & once], cosines[~same & once]
