"""The difference of two quantities that were measured together."""

import math
from typing import NamedTuple

from torch import Tensor

from bisector.errors import missing_extra, require
from bisector.statistics.correlation import complete_rows


class PairedDifference(NamedTuple):
    """A mean difference with its interval, in the unit of what was measured."""

    mean: float
    low: float
    high: float
    pairs: int  # that the mean is over

    @property
    def clear(self) -> bool:
        """Whether the interval holds numbers of one sign alone; False where there is none."""
        return self.low > 0 or self.high < 0

    def pairs_needed(self, level: float = 0.95, *, power: float = 0.8, most: int = 1000) -> int | None:
        """Return about how many pairs would make the difference clear, if mean and spread are what they seem.

        The smallest n at which the interval misses 0 with a probability of `power`: that of a noncentral t of n - 1
        degrees of freedom and noncentrality `sqrt(n) mean(d) / std(d)` beyond `t_(n-1, (1 + level)/2)`. From few
        pairs mean and spread are poorly known, so it is a hint and no promise.

        Args:
            level: of the intervals, those of this difference and of the later one.
            power: the probability.
            most: pairs that are thought of at most.

        Returns:
            n from 2 on; None where it is above `most`, or where there is no interval.

        Source: Cohen, "Statistical power analysis for the behavioral sciences" (1988), chapter 2.

        >>> PairedDifference(2.0, -0.48, 4.48, 3).pairs_needed()
        5
        """
        if not math.isfinite(self.low) or not self.mean:
            return None
        spread = (self.high - self.low) / 2 / _t(self.pairs, level) * math.sqrt(self.pairs)  # std(d)
        if not spread:
            return 2
        # From 10 on three pairs are enough at most, and scipy's series fails far beyond.
        effect = min(abs(self.mean) / spread, 10.0)
        from scipy.special import nctdtr

        def clear(n: int) -> bool:
            return 1 - float(nctdtr(n - 1, effect * math.sqrt(n), _t(n, level))) >= power

        return next((n for n in range(2, most + 1) if clear(n)), None)


def _t(pairs: int, level: float) -> float:
    """The quantile of Student's t that an interval over so many pairs has."""
    try:
        from scipy.special import stdtrit
    except ImportError:
        raise missing_extra("scipy", "report") from None
    return float(stdtrit(pairs - 1, (1 + level) / 2))


def paired_difference(
    x: Tensor,  # (S,)
    y: Tensor,  # (S,)
    level: float = 0.95,
) -> PairedDifference:
    """Mean of `x - y` over pairs, with the interval of Student's t.

    With `d = x - y` and S pairs the interval is `mean(d) ± t_(S-1, (1 + level)/2) std(d) / sqrt(S)`. What both
    sides of a pair share drops out: two networks that were trained on the same drawn data can differ reliably by
    less than each of them varies between draws. The interval rests on differences that are roughly normal; with
    few pairs it is wide, as it should be. A pair with a NaN on either side is dropped.

    Args:
        x: (S,), one value a pair, any real dtype.
        y: (S,).
        level: share of such intervals that hold the true mean, between 0 and 1.

    Returns:
        The mean and the ends of the interval; NaN for the ends with fewer than 2 pairs, for the mean with none.

    Raises:
        ArgumentError: if the shapes differ, a value is infinite or the level is not between 0 and 1.
        MissingExtraError: without scipy.

    Source: Student, "The probable error of a mean" (Biometrika 6, 1908).

    >>> import torch
    >>> mean, low, high, pairs = paired_difference(torch.tensor([5.0, 7.0, 9.0]), torch.tensor([4.0, 5.0, 6.0]))
    >>> f"{mean:.1f} ({low:.2f} to {high:.2f}) over {pairs} pairs"
    '2.0 (-0.48 to 4.48) over 3 pairs'
    """
    require(0 < level < 1, "level", level, "a number between 0 and 1")
    left, right = complete_rows({"x": x, "y": y}).T
    difference = left - right
    pairs, mean = len(difference), float(difference.mean())
    if pairs < 2:
        return PairedDifference(mean, math.nan, math.nan, pairs)
    # Not scipy.stats.ttest_rel, whose interval is NaN where all differences are equal.
    half = _t(pairs, level) * float(difference.std()) / math.sqrt(pairs)
    return PairedDifference(mean, mean - half, mean + half, pairs)
