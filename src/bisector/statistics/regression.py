"""How much one quantity adds to others in explaining a score: nested least squares."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bisector.errors import missing_extra, require
from bisector.records import fields_from_json
from bisector.statistics.correlation import partial_correlation


@dataclass(frozen=True)
class NestedRegression:
    """Two least-squares fits of one score, the second with one quantity more. NaN where a fit has no meaning.

    Args:
        rows: n that both are fitted to.
        r2_base: share of the score's variance that the first explains.
        r2_full: share that the second explains.
        f: `(r2_full - r2_base) / ((1 - r2_full) / (n - k - 2))`, k the quantities of the first.
        p: chance of so large an F where the added quantity has nothing to do with the score.
    """

    rows: int
    r2_base: float
    r2_full: float
    f: float
    p: float

    @property
    def gain(self) -> float:
        """What the added quantity explains beyond the others; never negative, and above 0 by chance alone."""
        return self.r2_full - self.r2_base

    @classmethod
    def from_dict(cls, content: Any) -> "NestedRegression":
        """What JSON holds of one: F of a fit that leaves nothing is infinite, for which JSON has no word."""
        found: NestedRegression = fields_from_json(cls, content)
        return found if math.isnan(found.p) or not math.isnan(found.f) else replace(found, f=math.inf)


def nested_regression(
    score: Tensor,  # (n,)
    base: Tensor,  # (n,) or (n, k)
    added: Tensor,  # (n,)
) -> NestedRegression:
    """Compare `score ~ 1 + base` with `score ~ 1 + base + added`.

    The gain is `(1 - R2_base) r^2`, r the partial correlation of score and `added` given `base`; under the
    hypothesis that `added` says nothing, and with normal residuals of one variance, F follows Fisher's distribution
    with 1 and n - k - 2 degrees of freedom. Rows with a NaN in any argument are dropped. A column of `base` without
    variance, or that the others make, takes no degree of freedom.

    Args:
        score: (n,), any real dtype.
        base: (n,) or (n, k), what is in both fits.
        added: (n,), what is in the second alone.

    Raises:
        ArgumentError: if the shapes do not agree.
        MissingExtraError: without scipy.

    Source: Fisher 1922; Draper and Smith, Applied Regression Analysis, section 6.1 (the extra sum of squares).

    >>> count = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> amount = torch.tensor([2.0, 1.0, 4.0, 3.0, 6.0, 7.0])
    >>> noise = torch.tensor([0.1, -0.1, 0.1, 0.1, -0.1, -0.1])
    >>> found = nested_regression(count - 2 * amount + noise, count, amount)
    >>> f"{found.r2_base:.3f} + {found.gain:.3f}, p = {found.p:.0e}"
    '0.577 + 0.422, p = 4e-05'
    """
    require(score.ndim == 1, "score", f"shape {tuple(score.shape)}", "a shape (n,)")
    require(added.shape == score.shape, "added", f"shape {tuple(added.shape)}", f"{tuple(score.shape)}")
    legal = base.ndim in {1, 2} and len(base) == len(score)
    require(legal, "base", f"shape {tuple(base.shape)}", f"({len(score)},) or ({len(score)}, k)")
    table = torch.column_stack([v.detach().cpu().double() for v in (score, added, base)])
    table = table[~table.isnan().any(dim=1)]
    rows = len(table)
    unknown = NestedRegression(rows, math.nan, math.nan, math.nan, math.nan)
    r = partial_correlation(table[:, 0], table[:, 1], table[:, 2:]).item()
    base_r2, rank = _explained(table[:, 0], table[:, 2:]) if rows else (math.nan, 0)
    freedom = rows - rank - 2
    if math.isnan(r) or math.isnan(base_r2) or freedom < 1:
        return unknown
    full_r2 = base_r2 + (1 - base_r2) * r * r
    left = 1 - r * r
    # (gain) / (1 - full) with the common factor 1 - base taken out.
    f = r * r / left * freedom if left > 0 else math.inf
    return NestedRegression(rows, base_r2, full_r2, f, _tail(f, freedom))


def _explained(
    score: Tensor,  # (n,)
    columns: Tensor,  # (n, k)
) -> tuple[float, int]:
    """The R2 of a fit on a constant and the columns, and the rank of the columns beside the constant."""
    centred = columns - columns.mean(dim=0)
    lengths = torch.linalg.vector_norm(columns, dim=0)
    left = torch.linalg.vector_norm(centred, dim=0)
    moving = left > 4 * len(score) * torch.finfo(torch.float64).eps * lengths  # else it is rounding
    target = score - score.mean()
    total = target.square().sum().item()
    if not total > 0:
        return math.nan, 0
    if not moving.any():
        return 0.0, 0
    scaled = centred[:, moving] / left[moving]
    solution = torch.linalg.lstsq(scaled, target[:, None], driver="gelsd")
    residual = target - (scaled @ solution.solution).squeeze(1)
    return min(1.0, max(0.0, 1 - residual.square().sum().item() / total)), int(solution.rank)


def _tail(f: float, freedom: int) -> float:
    try:
        from scipy.special import fdtrc
    except ImportError:
        raise missing_extra("scipy", "measure") from None
    return float(fdtrc(1, freedom, f))
