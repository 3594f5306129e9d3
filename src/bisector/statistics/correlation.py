"""Correlation, and correlation with something else held fixed."""

from collections.abc import Mapping

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
    table = complete_rows({"x": x, "y": y, "given": given}, matrix="given")
    rows, width = table.shape
    if rows < width + 1:
        return table.new_full((), torch.nan)
    _, residuals, _ = least_squares(table, 2)
    return cosine(residuals)


def complete_rows(columns: Mapping[str, Tensor], matrix: str = "") -> Tensor:
    """Return columns (n,), or a matrix (n, k), side by side in float64 without the rows that hold a NaN."""
    (first, x), *_ = columns.items()
    require(x.ndim == 1, first, f"shape {tuple(x.shape)}", "a shape (n,)")
    for name, column in columns.items():
        legal = column.shape == x.shape or (name == matrix and column.ndim == 2 and len(column) == len(x))
        also = f" or ({len(x)}, k)" if name == matrix else ""
        expected = f"the shape of {first}, {tuple(x.shape)}{also}"
        require(legal, name, f"shape {tuple(column.shape)}", expected)
    table = torch.column_stack([column.detach().cpu().double() for column in columns.values()])
    table = table[~table.isnan().any(dim=1)]
    finite = bool(table.isfinite().all())
    require(finite, ", ".join(columns), "an infinite value", "finite numbers or NaN")
    return table


def least_squares(
    table: Tensor,  # (n, k)
    targets: int,
) -> tuple[Tensor, Tensor, int]:
    """Fit the first columns on the others and a constant.

    Returns:
        The targets about their means and the residuals, both (n, targets) and 0 where there is nothing but the
        rounding of a subtraction, and the rank of the other columns beside the constant.
    """
    lengths = torch.linalg.vector_norm(table, dim=0)
    table = _without_rounding(table - table.mean(dim=0), lengths)
    deviations = residuals = table[:, :targets]
    rank = 0
    if table.shape[1] > targets:
        # Columns of one length, else the rank that lstsq sees depends on their units; gelsd takes any rank.
        given = normalize(table[:, targets:], dim=0, eps=_TINY)
        fit = torch.linalg.lstsq(given, deviations, driver="gelsd")
        residuals, rank = deviations - given @ fit.solution, int(fit.rank)
    return deviations, _without_rounding(residuals, lengths[:targets]), rank


def cosine(
    pair: Tensor,  # (n, 2)
) -> Tensor:
    """The cosine of two columns, NaN where one is zero."""
    pair = normalize(pair, dim=0, eps=_TINY)
    if not pair.any(dim=0).all():
        return pair.new_full((), torch.nan)
    return pair.prod(dim=1).sum().clamp(-1, 1)


def _without_rounding(
    residuals: Tensor,  # (n, k)
    lengths: Tensor,  # (k,), of the columns that the residuals were subtracted from
) -> Tensor:
    """The columns, those that are nothing but the rounding of a subtraction set to zero."""
    noise = 4 * len(residuals) * torch.finfo(torch.float64).eps * lengths
    left: Tensor = torch.linalg.vector_norm(residuals, dim=0)
    return residuals * (left > noise)
