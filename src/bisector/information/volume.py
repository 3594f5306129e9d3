"""What the eigenvalues of a covariance say: its volume `1/2 log2 det(I + Sigma)` and its effective rank."""

from math import log

import torch
from torch import Tensor

from bisector.errors import require


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
    """
    scales = 1 + ridges
    grams /= scales[:, None, None]
    grams.diagonal(dim1=-2, dim2=-1).add_(1)
    factors, failures = torch.linalg.cholesky_ex(grams)
    bits = factors.diagonal(dim1=-2, dim2=-1).log2().sum(dim=-1) + 0.5 * dim * scales.log2()
    return torch.where(failures == 0, bits, torch.nan)


def padded(
    spectrum: Tensor,  # (k,)
    dim: int,
) -> Tensor:
    """Ascending eigenvalues, with zeros for those that are null and without the negative ones of rounding: (p,)."""
    nulls = spectrum.new_zeros(max(0, dim - len(spectrum)))
    return torch.cat([nulls, spectrum[max(0, len(spectrum) - dim) :].clamp(min=0)])


def effective_rank(
    eigenvalues: Tensor,  # (p,)
) -> Tensor:
    """The effective rank `exp(-sum_i q_i log q_i)`, `q_i = l_i / sum_j l_j`, a number of directions.

    It is p where all eigenvalues are equal, 1 where one stands alone, and 0 where all are zero. It is taken
    from the sample's own eigenvalues, so it never exceeds the number of instances less one.

    Args:
        eigenvalues: (p,), of a covariance matrix, none negative.

    Returns:
        A 0-d tensor.

    Raises:
        ArgumentError: if an eigenvalue is negative.

    Source: Roy and Vetterli 2007, The effective rank, EUSIPCO.

    >>> effective_rank(torch.tensor([0.0, 2.0, 2.0, 2.0]))
    tensor(3.)
    """
    negative = eigenvalues[eigenvalues < 0]
    require(len(negative) == 0, "eigenvalues", negative.tolist(), "none below 0")
    total = eigenvalues.sum()
    if total == 0:
        return total
    entropy: Tensor = torch.special.entr(eigenvalues / total).sum()
    return entropy.exp()
