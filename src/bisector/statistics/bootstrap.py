"""Confidence intervals by drawing the rows again: the bias-corrected and accelerated bootstrap."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.errors import require, require_integer

FEWEST_ROWS = 9
"""Rows below which there is no interval: so few have too few different resamples to tell anything.

In 500 draws each of two kinds of long-tailed counts and accuracies that have nothing to do with each other, the
interval of a partial correlation reached beyond ±.99 in 55 and 59% with 8 rows, in 6 and 14% with 9, in 1 and 2%
with 10; with 9 rows and more such intervals held the truth in 92 to 98%.
"""

_MOST_UNKNOWN = 0.05  # share of the resamples that may leave the statistic undefined
_CELLS = 2**21  # weights that are held at once: 16 MiB
_WORK = 2**24  # weights that are drawn in all, as far as that leaves enough resamples
_GROUPS = 256  # of rows, one of which is left out at a time
_FEWEST_QUANTILES = 1_000  # resamples below which a quantile near the end is mostly chance
_FEWEST = 64  # resamples for a standard deviation, which is then known to a tenth


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its confidence interval; NaN where there is none.

    >>> Estimate(-0.6, -0.8, -0.3).clear, Estimate(0.1, -0.2, 0.4).clear
    (True, False)
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def clear(self) -> bool:
        """Whether the interval holds numbers of one sign alone; False where there is none."""
        return self.low > 0 or self.high < 0


def bootstrap_intervals(
    statistic: Callable[[Tensor], Tensor],  # weights (R, n) -> (R, k)
    rows: int,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Estimate]:
    """The BCa intervals of k statistics of the same n rows.

    A resample draws n rows with replacement, which is to say that it gives every row a weight: how often it was
    drawn. The statistic is a function of those weights, of many resamples at once; that makes drawing 10,000 times
    a few matrix products. With `t` the statistic of the rows as they are, `t*` of the resamples and `t_(i)` with
    row i left out, the interval ends are the quantiles of `t*` at

        Phi(z0 + (z0 + z) / (1 - a (z0 + z))),   z = Phi^-1((1 ± level) / 2),
        z0 = Phi^-1(P(t* < t) + P(t* = t) / 2),   a = sum d_i^3 / (6 (sum d_i^2)^(3/2)),   d_i = mean t_(.) - t_(i).

    Plain percentiles are the case z0 = a = 0. They fall short for a correlation of few rows, whose distribution is
    skew and whose mean lies off: of 600 draws of 10 normal pairs that correlate by -0.6, percentiles held the truth
    in 90% and BCa in 94%. In 1,000 draws each of 10 to 300 normal rows, BCa intervals of Pearson's, Spearman's and
    partial correlations held it in 93 to 97%. Where the spread of one side depends on the other that falls to 88 to
    90% with 20 rows (91 to 93% with 200), and with lognormal tails to 80%, whatever the interval is made of:
    Spearman's correlation is the remedy there.

    Unlike that of `scipy.stats.bootstrap` the work does not grow with the square of n, and some resamples may leave
    the statistic undefined. Of more than 256 rows, those that are left out for `t_(i)` go by as many random groups
    (the delete-a-group jackknife, whose a is the same up to about 0.65 / 256), and no more than 2^24 / n resamples
    are drawn. Where that is below 1,000, for more than 16,777 rows, their ends would be mostly chance; of so many
    rows the distribution is as good as normal, and the interval is `t -+ z s`, s the standard deviation of `t*` in
    64 resamples or more.

    Args:
        statistic: of weights (R, n), float64, for any R; NaN where it is not defined.
        rows: n.
        resamples: how many are drawn, at most.
        level: share of such intervals that hold the truth, between 0 and 1.
        seed: of the drawing.

    Returns:
        An estimate for each statistic. Without an interval with fewer than 9 rows, or where more than one resample
        of twenty leaves the statistic undefined.

    Raises:
        ArgumentError: if `rows`, `resamples` or `level` is not legal.

    Source: Efron 1987, Better Bootstrap Confidence Intervals, Journal of the American Statistical Association 82.

    >>> x = torch.arange(30.0, dtype=torch.float64)
    >>> mean, = bootstrap_intervals(lambda weights: (weights @ x / 30)[:, None], 30)
    >>> f"{mean.value:.1f}, {mean.low:.0f} to {mean.high:.0f}"
    '14.5, 11 to 18'
    """
    require_integer("rows", rows, least=1)
    require_integer("resamples", resamples, least=100)
    require(0 < level < 1, "level", level, "a number between 0 and 1")
    whole = statistic(torch.ones(1, rows, dtype=torch.float64, device="cpu"))[0]
    if rows < FEWEST_ROWS:
        return [Estimate(value) for value in whole.tolist()]
    generator = torch.Generator().manual_seed(seed)
    tail = (1 - level) / 2
    affordable = max(_WORK // rows, _FEWEST)
    normal = affordable < min(resamples, _FEWEST_QUANTILES)
    resamples = min(resamples, affordable)
    drawn = torch.cat([statistic(w) for w in _resamples(rows, resamples, generator)])
    without = None if normal else torch.cat([statistic(w) for w in _groups_left_out(rows, generator)])
    estimates = []
    for k, value in enumerate(whole.tolist()):
        known = drawn[:, k][drawn[:, k].isfinite()]
        if not math.isfinite(value) or len(known) < (1 - _MOST_UNKNOWN) * resamples:
            estimates.append(Estimate(value))
        elif without is None:
            z = -float(torch.special.ndtri(known.new_tensor(tail)))
            reach = z * float((known - value).square().mean().sqrt())
            estimates.append(Estimate(value, value - reach, value + reach))
        else:
            estimates.append(Estimate(value, *_bca_ends(value, known, without[:, k], tail)))
    return estimates


def _resamples(rows: int, resamples: int, generator: torch.Generator) -> Iterator[Tensor]:
    """How often each row is drawn, (R, n), some resamples at a time."""
    step = max(1, _CELLS // rows)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        picks = torch.randint(rows, (size, rows), generator=generator, device="cpu")
        picks += rows * torch.arange(size, device="cpu")[:, None]
        yield torch.bincount(picks.flatten(), minlength=size * rows).view(size, rows).double()


def _groups_left_out(rows: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Weights with one group of rows left out, (R, n), some at a time; of few rows each is a group."""
    groups = min(rows, _GROUPS)
    group = torch.arange(rows, device="cpu") % groups
    if groups < rows:  # rows may come in an order, and groups that are all alike would show no skew
        group = group[torch.randperm(rows, generator=generator, device="cpu")]
    step = max(1, _CELLS // rows)
    for numbers in torch.split(torch.arange(groups, device="cpu"), step):
        yield (group != numbers[:, None]).double()


def _bca_ends(
    whole: float,
    drawn: Tensor,  # (R,)
    without: Tensor,  # (groups,)
    tail: float,
) -> list[float]:
    below = float((drawn < whole).double().mean() + (drawn == whole).double().mean() / 2)
    least = 1 / (len(drawn) + 1)  # not infinite where every resample lies on one side
    shift, *ends = torch.special.ndtri(drawn.new_tensor([min(max(below, least), 1 - least), tail, 1 - tail]))
    d = without[without.isfinite()]
    d = d.mean() - d
    squares = float(d.square().sum())
    skew = float(d.pow(3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    moved = shift + torch.stack(ends)
    places = torch.special.ndtr(shift + moved / (1 - skew * moved).clamp(min=1e-3))
    return torch.quantile(drawn, places).tolist()
