"""The intrinsic dimension of a cloud of points, from the distances to their two nearest neighbours."""

import math

import torch
from torch import Tensor

from bisector.checks import require_embeddings

FEWEST = 8
"""Distinct rows below which no dimension is told."""

_KEPT = 0.9  # of the ratios; the largest are of points in thin places
_BLOCK = 2**24  # numbers of a block of distances
_ROUNDING = 1e-6  # ratios that are so near 1 may be of equal distances, of rows that came as float32


def intrinsic_dimension(
    embeddings: Tensor,  # (N, D)
) -> float:
    r"""Return the TwoNN estimate of how many directions the rows spread in, whatever D is.

    Of each row, :math:`\mu = r_2 / r_1` is the ratio of the distances to its two nearest neighbours. Where the
    density is even at that scale, :math:`\mu` has the distribution :math:`F(\mu) = 1 - \mu^{-d}`, so that
    :math:`-\ln(1 - F) = d \ln \mu`: d is the slope of a line through 0, fitted to the lowest 90% of the rows.

    Args:
        embeddings: (N, D) finite numbers. Rows that are equal count once. It takes N^2 D multiplications.

    Returns:
        The dimension; NaN of fewer than 8 distinct rows, infinite where all are as far from each other.

    Raises:
        ArgumentError: they are no floating (N, D).

    Source: Facco, d'Errico, Rodriguez and Laio, Scientific Reports 7, 2017.

    >>> angle = 6.2832 * torch.rand(2000, 1, generator=torch.Generator().manual_seed(0))
    >>> round(intrinsic_dimension(torch.cat([angle.sin(), angle.cos(), 0 * angle], 1)), 1)
    1.0
    """
    require_embeddings("embeddings", embeddings)
    rows = torch.unique(embeddings.detach().cpu().double(), dim=0)
    if len(rows) < FEWEST:
        return math.nan
    rows = rows - rows.mean(0)  # so that no digits of distances are lost to what all have in common
    blocks = rows.split(max(1, _BLOCK // len(rows)))
    near = [torch.cdist(block, rows).topk(3, largest=False).values[:, 1:] for block in blocks]  # not itself
    first, second = torch.cat(near).unbind(1)
    ratios = (second / first).log().sort().values
    ratios[ratios < _ROUNDING] = 0
    kept = max(2, int(_KEPT * len(ratios)))
    heights = -torch.log1p(-torch.arange(1, kept + 1, dtype=torch.float64, device="cpu") / (len(ratios) + 1))
    squares = float(ratios[:kept].square().sum())
    return float((ratios[:kept] * heights).sum()) / squares if squares > 0 else math.inf
