"""Intervals of shares: of so many rows, so many."""

import math

from bisector.statistics.bootstrap import Estimate

_Z = 1.959963984540054  # of 95 %


def wilson(hits: int, rows: int) -> Estimate:
    """A share with Wilson's 95% interval (Wilson 1927), which holds near 0 and 1 and of few rows too.

    Args:
        hits: rows that count.
        rows: of all; of none nothing is known.

    >>> one = wilson(8, 10)
    >>> one.value, round(one.low, 4), round(one.high, 4)
    (0.8, 0.4902, 0.9433)
    """
    if not rows:
        return Estimate(math.nan)
    share = hits / rows
    middle = share + _Z**2 / (2 * rows)
    half = _Z * math.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    scale = 1 + _Z**2 / rows
    return Estimate(share, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def mean_of_shares(first: Estimate, second: Estimate) -> Estimate:
    """The mean of two shares of different rows, its interval made of theirs (Newcombe 1998, square and add).

    >>> one = mean_of_shares(wilson(2, 4), wilson(1, 2))
    >>> one.value, round(one.low, 3), round(one.high, 3)
    (0.5, 0.232, 0.768)
    """
    mean = (first.value + second.value) / 2
    below = math.hypot(first.value - first.low, second.value - second.low) / 2
    above = math.hypot(first.high - first.value, second.high - second.value) / 2
    return Estimate(mean, mean - below, mean + above)
