"""Takes rows of a tensor so that its gradient has these rows alone."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def take_rows(
    values: Tensor,  # (C, ...)
    rows: Tensor,  # (S,) ascending, each once
    *,
    sparse: bool,
) -> Tensor:
    """Return the (S, ...) rows; with `sparse`, the gradient of `values` is a sparse tensor of S rows.

    `torch.nn.functional.embedding` does this for matrices; here any number of dimensions will do, vectors and
    sub-centers too, and the gradient takes the memory that the loss's backward pass has filled, without a copy.

    >>> bias = torch.zeros(1000, requires_grad=True)
    >>> take_rows(bias, torch.tensor([3, 14]), sparse=True).sum().backward()
    >>> bias.grad.coalesce().indices(), bias.grad.coalesce().values()
    (tensor([[ 3, 14]]), tensor([1., 1.]))
    """
    if not sparse:
        return values.index_select(0, rows)
    return cast("Tensor", _TakenRows.apply(values, rows))


class _TakenRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor) -> Tensor:
        ctx.shape = values.shape
        ctx.save_for_backward(rows)
        return values.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        taken = torch.sparse_coo_tensor(
            rows[None], gradient, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return taken, None
