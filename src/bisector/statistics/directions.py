"""The directions of vectors, whatever their lengths."""

import torch
from torch import Tensor


def unit_rows(
    rows: Tensor,  # (N, D)
) -> Tensor:
    """Each row divided by its length, where squares would leave the range of its numbers too.

    A row is first multiplied by the power of two that brings its largest number to between 0.5 and 1. So rows times
    a power of two have the same directions to the last bit. A zero row has no direction and stays zero.

    Returns:
        (N, D) on the same device, float64 where the rows are, else float32.

    >>> unit_rows(torch.tensor([[3e30, 4e30], [3e-30, 4e-30], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    rows = near_one(rows)
    if not rows.numel():
        return rows
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    units: Tensor = rows / lengths.masked_fill(lengths == 0, 1)
    return units


def near_one(
    rows: Tensor,  # (N, D)
) -> Tensor:
    """Each row times a power of two within the range of its numbers, so that its largest is between 0.5 and 1."""
    rows = rows.detach().to(torch.promote_types(rows.dtype, torch.float32))
    if not rows.numel():
        return rows
    most = 120 if rows.dtype == torch.float32 else 1000  # the power itself is a number too
    exponents = torch.frexp(torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True)).exponent
    return torch.ldexp(rows, -exponents.clamp(-most, most))
