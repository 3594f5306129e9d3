"""How much one quantity adds to others in explaining a score: nested least squares."""

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from bisector.errors import missing_extra
from bisector.records import fields_from_json
from bisector.statistics.correlation import complete_rows, cosine, least_squares


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

    >>> import torch
    >>> count = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> amount = torch.tensor([2.0, 1.0, 4.0, 3.0, 6.0, 7.0])
    >>> noise = torch.tensor([0.1, -0.1, 0.1, 0.1, -0.1, -0.1])
    >>> found = nested_regression(count - 2 * amount + noise, count, amount)
    >>> f"{found.r2_base:.3f} + {found.gain:.3f}, p = {found.p:.0e}"
    '0.577 + 0.422, p = 4e-05'
    """
    table = complete_rows({"score": score, "added": added, "base": base}, matrix="base")
    rows, width = table.shape
    unknown = NestedRegression(rows, math.nan, math.nan, math.nan, math.nan)
    if rows < width + 1:
        return unknown
    deviations, residuals, rank = least_squares(table, 2)
    r, freedom = cosine(residuals).item(), rows - rank - 2
    if math.isnan(r) or freedom < 1:
        return unknown
    unexplained = residuals[:, 0].square().sum().item() / deviations[:, 0].square().sum().item()
    r2_base = min(1.0, max(0.0, 1 - unexplained))
    r2_full = r2_base + (1 - r2_base) * r * r
    left = 1 - r * r
    # (gain) / (1 - full) with the common factor 1 - base taken out.
    f = r * r / left * freedom if left > 0 else math.inf
    try:
        from scipy.special import fdtrc
    except ImportError:
        raise missing_extra("scipy", "measure") from None
    return NestedRegression(rows, r2_base, r2_full, f, float(fdtrc(1, freedom, f)))
