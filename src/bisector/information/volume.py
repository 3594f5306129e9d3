"""The volume `1/2 log2 det(I + Sigma)` of covariance matrices, in bits, without a determinant."""

from math import log

import torch
from torch import Tensor


def volume_of_spectrum(
    eigenvalues: Tensor,  # (..., p)
) -> Tensor:
    """`1/2 sum_i log2(1 + l_i)`: (...).

    >>> volume_of_spectrum(torch.tensor([0.0, 1.0, 3.0]))
    tensor(1.5000)
    """
    return eigenvalues.log1p().sum(dim=-1) / (2 * log(2))


def volumes_by_cholesky(
    grams: Tensor,  # (L, k, k)
    dim: int,
    ridges: Tensor,  # (L,)
) -> Tensor:
    """`1/2 log2 det((1 + ridge) I + G)` for matrices with the non-null eigenvalues of G: (L,) float64.

    NaN where the factorisation fails: eigenvalues so large that 1 is below their rounding, which can leave a
    null one negative.

    Args:
        grams: (L, k, k) float64, G on its smaller side; used up.
        dim: p, of G itself.
        ridges: (L,) float64.

    >>> volumes_by_cholesky(torch.tensor([[[3.0]]]).double(), dim=2, ridges=torch.ones(1).double())
    tensor([1.6610], dtype=torch.float64)
    """
    scales = 1 + ridges
    grams /= scales[:, None, None]
    grams.diagonal(dim1=-2, dim2=-1).add_(1)
    factors, failures = torch.linalg.cholesky_ex(grams)
    bits = factors.diagonal(dim1=-2, dim2=-1).log2().sum(dim=-1) + 0.5 * dim * scales.log2()
    return torch.where(failures == 0, bits, torch.nan)
