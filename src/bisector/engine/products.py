"""Matrix products whose sums are kept in a higher precision than their factors."""

import math

import torch
from torch import Tensor

from bisector.functional.cosine import SHORTEST


def add_product(
    total: Tensor,  # (m, n)
    a: Tensor,  # (m, k)
    b: Tensor,  # (k, n)
    *,
    fresh: bool = False,
    factor: Tensor | None = None,  # (m,)
) -> None:
    """Add a @ b to a total in place.

    Args:
        total: float32 or better.
        a: of any floating dtype.
        b: of the same.
        fresh: write the product instead of adding it.
        factor: what each row of the product is multiplied by first; goes with adding only.

    >>> total = torch.ones(1, 1)
    >>> add_product(total, torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]), factor=torch.tensor([10.0]))
    >>> total
    tensor([[111.]])
    """
    if a.dtype == total.dtype and factor is None:
        torch.mm(a, b, out=total) if fresh else total.addmm_(a, b)
        return
    if a.device.type == "cuda" and a.dtype in {torch.float16, torch.bfloat16}:
        product = torch.mm(a, b, out_dtype=torch.float32)
    else:
        product = torch.mm(a, b)
    if factor is not None:
        total.addcmul_(product.to(total.dtype), factor[:, None])
    else:
        total.copy_(product) if fresh else total.add_(product)


def lengths(
    rows: Tensor,  # (n, D)
    dtype: torch.dtype,
) -> Tensor:
    """Return the (n, 1) length of each row; infinite for one without direction, as in `functional.cosine.unit`."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=dtype)
    return torch.where(norms > SHORTEST, norms, math.inf)
