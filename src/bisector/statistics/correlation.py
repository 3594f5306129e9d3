"""Correlation, and correlation with something else held fixed."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bisector.errors import require

_TINY = torch.finfo(torch.float64).tiny


def pearson(
    x: Tensor,  # (n,)
    y: Tensor,  # (n,)
) -> Tensor:
    """Pearson's correlation `cov(x, y) / (std(x) std(y))`, without a unit, in [-1, 1].

    Rows with a NaN in either argument are dropped.

    Args:
        x: (n,), any real dtype.
        y: (n,).

    Returns:
        A 0-d float64 tensor; NaN where fewer than 3 rows are left or one side has no variance.

    Raises:
        ArgumentError: if the shapes differ, or a value is infinite.

    >>> pearson(torch.tensor([1, 2, 3, 4]), torch.tensor([1.0, 3.0, 2.0, 4.0]))
    tensor(0.8000, dtype=torch.float64)
    """
    return partial_correlation(x, y, x.new_empty(len(x), 0))


def spearman(
    x: Tensor,  # (n,)
    y: Tensor,  # (n,)
) -> Tensor:
    """Spearman's correlation: Pearson's of the ranks, ties at the mean of their ranks.

    It asks only whether y rises with x, on whatever scale, and one far row moves it little. Rows with a NaN in
    either argument are dropped.

    Args:
        x: (n,), any real dtype.
        y: (n,).

    Returns:
        A 0-d float64 tensor; NaN where fewer than 3 rows are left or all values of one side are the same.

    Raises:
        ArgumentError: if the shapes differ, or a value is infinite.

    Source: Spearman 1904.

    >>> spearman(torch.tensor([1, 2, 3, 4]), torch.tensor([1.0, 4.0, 9.0, 160.0]))
    tensor(1., dtype=torch.float64)
    """
    require(x.ndim == 1, "x", f"shape {tuple(x.shape)}", "a shape (n,)")
    require(y.shape == x.shape, "y", f"shape {tuple(y.shape)}", f"the shape of x, {tuple(x.shape)}")
    pair = torch.stack([v.detach().cpu().to(torch.float64) for v in (x, y)])
    pair = pair[:, ~pair.isnan().any(dim=0)]
    require(bool(pair.isfinite().all()), "x, y", "an infinite value", "finite numbers or NaN")
    return pearson(_ranks(pair[0]), _ranks(pair[1]))


def _ranks(values: Tensor) -> Tensor:  # (n,) -> (n,)
    """From 1 for the smallest; ties at the mean of their ranks."""
    _, group, held = torch.unique(values, return_inverse=True, return_counts=True)
    ranks = held.cumsum(dim=0).double() - (held.double() - 1) / 2
    of_rows: Tensor = ranks[group]
    return of_rows


def partial_correlation(
    x: Tensor,  # (n,)
    y: Tensor,  # (n,)
    given: Tensor,  # (n,) or (n, k)
) -> Tensor:
    """Correlation of what is left of x and y after a least-squares fit on `given` and a constant.

    With one column z this is `(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))`. Rows with a NaN in any
    argument are dropped. A column of `given` without variance controls for nothing and changes nothing.

    Args:
        x: (n,), any real dtype.
        y: (n,).
        given: (n,) or (n, k): what is held fixed.

    Returns:
        A 0-d float64 tensor; NaN where fewer than 3 + k rows are left (4 with one column) or where
        `given` leaves no variance of x or y.

    Raises:
        ArgumentError: if the shapes do not agree, or a value is infinite.

    Source: Yule 1907; Kendall and Stuart, The Advanced Theory of Statistics 2, chapter 27.

    >>> count = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> noise = torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0, 0.0])
    >>> pearson(count + noise, count - noise)
    tensor(0.6391, dtype=torch.float64)
    >>> partial_correlation(count + noise, count - noise, count)
    tensor(-1., dtype=torch.float64)
    """
    require(x.ndim == 1, "x", f"shape {tuple(x.shape)}", "a shape (n,)")
    require(y.shape == x.shape, "y", f"shape {tuple(y.shape)}", f"the shape of x, {tuple(x.shape)}")
    require(
        given.ndim in {1, 2} and len(given) == len(x),
        "given",
        f"shape {tuple(given.shape)}",
        f"a shape ({len(x)},) or ({len(x)}, k)",
    )
    columns = [v.detach().cpu().to(torch.float64) for v in (x, y, given)]
    table = torch.column_stack(columns)
    table = table[~table.isnan().any(dim=1)]
    require(bool(table.isfinite().all()), "x, y, given", "an infinite value", "finite numbers or NaN")
    rows, width = table.shape
    if rows < width + 1:
        return table.new_full((), torch.nan)
    lengths = torch.linalg.vector_norm(table, dim=0)
    table = _without_rounding(table - table.mean(dim=0), lengths)
    pair, fixed = table[:, :2], table[:, 2:]
    if width > 2:
        # Columns of one length, else the rank that lstsq sees depends on their units; gelsd takes any rank.
        fixed = normalize(fixed, dim=0, eps=_TINY)
        pair = pair - fixed @ torch.linalg.lstsq(fixed, pair, driver="gelsd").solution
    pair = normalize(_without_rounding(pair, lengths[:2]), dim=0, eps=_TINY)
    if not pair.any(dim=0).all():
        return table.new_full((), torch.nan)
    return pair.prod(dim=1).sum().clamp(-1, 1)


def _without_rounding(
    residuals: Tensor,  # (n, k)
    lengths: Tensor,  # (k,), of the columns that the residuals were subtracted from
) -> Tensor:
    """The columns, those that are nothing but the rounding of a subtraction set to zero."""
    noise = 4 * len(residuals) * torch.finfo(torch.float64).eps * lengths
    left: Tensor = torch.linalg.vector_norm(residuals, dim=0)
    return residuals * (left > noise)
