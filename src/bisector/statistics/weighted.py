"""Correlations of rows that have weights, for many sets of weights at once."""

import torch
from torch import Tensor

_NONE = 1e-12
"""Share of a variance that is taken for the rounding of one that is null."""


def weighted_correlations(
    weights: Tensor,  # (R, n)
    columns: Tensor,  # (n, k)
) -> Tensor:  # (R, k, k)
    """Pearson's correlations of the columns under each set of weights, NaN of a column without variance.

    `r_xy = (m_xy - m_x m_y) / sqrt((m_xx - m_x^2) (m_yy - m_y^2))`, with m the weighted means: one product of the
    weights with the columns and their products in pairs.

    Args:
        weights: (R, n) float64, not negative.
        columns: (n, k) float64, finite.

    >>> columns = torch.tensor([[1.0, 4.0], [2.0, 3.0], [3.0, 5.0]], dtype=torch.float64)
    >>> weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
    >>> weighted_correlations(weights, columns)[:, 0, 1]
    tensor([-1.,  1.], dtype=torch.float64)
    """
    width = columns.shape[1]
    centred = columns - columns.mean(dim=0)
    spread = centred.square().mean(dim=0).sqrt()
    centred = centred / torch.where(spread > 0, spread, 1.0)
    first, second = torch.triu_indices(width, width, device="cpu")
    table = torch.cat([centred, centred[:, first] * centred[:, second]], dim=1)
    means = weights @ table / weights.sum(dim=1, keepdim=True)
    return _correlations(means[:, :width], means[:, width:], first, second)


def _correlations(
    means: Tensor,  # (R, k)
    products: Tensor,  # (R, k (k + 1) / 2)
    first: Tensor,
    second: Tensor,
) -> Tensor:  # (R, k, k)
    sets, width = means.shape
    covariance = means.new_empty(sets, width, width)
    covariance[:, first, second] = covariance[:, second, first] = (
        products - means[:, first] * means[:, second]
    )
    variance = covariance.diagonal(dim1=1, dim2=2)
    deviation = torch.where(variance > _NONE, variance, torch.nan).sqrt()
    return (covariance / (deviation[:, :, None] * deviation[:, None, :])).clamp(-1, 1)


def weighted_partial(correlations: Tensor) -> Tensor:  # (R, 3, 3) -> (R,)
    """Correlation of the first two with the third held fixed; one without variance holds nothing fixed.

    >>> r = torch.tensor([[[1.0, 0.5, 0.6], [0.5, 1.0, 0.8], [0.6, 0.8, 1.0]]], dtype=torch.float64)
    >>> weighted_partial(r)
    tensor([0.0417], dtype=torch.float64)
    """
    xy, xz, yz = correlations[:, 0, 1], correlations[:, 0, 2].nan_to_num(), correlations[:, 1, 2].nan_to_num()
    left = (1 - xz.square()) * (1 - yz.square())
    return ((xy - xz * yz) / torch.where(left > _NONE, left, torch.nan).sqrt()).clamp(-1, 1)


def weighted_spearman(
    weights: Tensor,  # (R, n)
    x: Tensor,  # (n,)
    y: Tensor,  # (n,)
) -> Tensor:  # (R,)
    """Spearman's correlation of rows that are there as often as their weights say.

    Args:
        weights: (R, n) float64, whole numbers.
        x: (n,), finite.
        y: (n,).

    >>> x, y = torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 3.0, 2.0])
    >>> weighted_spearman(torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64), x, y)
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    total = weights.sum(dim=1, keepdim=True)
    # The mean rank is (N + 1) / 2 whatever the ties; without it the products below lose nothing to rounding.
    left, right = (_ranks(weights, values) - (total + 1) / 2 for values in (x, y))
    weighted = weights * left
    xx, xy = (weighted * left).sum(dim=1), (weighted * right).sum(dim=1)
    yy = (weights * right.square()).sum(dim=1)
    known = (xx > 0) & (yy > 0)
    return (xy / torch.where(known, xx * yy, torch.nan).sqrt()).clamp(-1, 1)


def _ranks(
    weights: Tensor,  # (R, n)
    values: Tensor,  # (n,)
) -> Tensor:  # (R, n)
    """The rank of every row among all copies, ties at the mean of their ranks."""
    different, group = torch.unique(values, return_inverse=True)
    held = weights
    if len(different) == len(values):
        held = weights[:, torch.argsort(values)]
    else:
        held = weights.new_zeros(len(weights), len(different)).index_add_(1, group, weights)
    ranks = held.cumsum(dim=1) - (held - 1) / 2
    return ranks[:, group]
