"""Scores in order, so that every question about a threshold is two or three look-ups."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bisector.errors import require


@dataclass(frozen=True, eq=False)
class SortedScores:
    """Many scores, ascending, either each by itself or as distinct values with how often they occur.

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

    def at_least(self, thresholds: Tensor) -> Tensor:
        """Count the scores that each threshold, of the same dtype, accepts: those not below it."""
        return self._from(torch.searchsorted(self.values, thresholds))

    def above(self, thresholds: Tensor) -> Tensor:
        """Count the scores strictly above each threshold of the same dtype."""
        return self._from(torch.searchsorted(self.values, thresholds, right=True))

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

    def not_below(self, threshold: float) -> int:
        """Count the scores of at least a threshold, which need not be a number of their dtype."""
        lowest = self.values.new_tensor(threshold)
        if float(lowest) < threshold:  # rounded down: the next number up is the first that is accepted
            lowest = lowest.nextafter(lowest.new_tensor(math.inf))
        return int(self.at_least(lowest))

    def _from(self, positions: Tensor) -> Tensor:
        return self.total - (positions if self.counts is None else self._up_to[positions])
