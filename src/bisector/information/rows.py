"""Embeddings as they come in: are they finite, on which scale are they measured, which rows are whose."""

from math import sqrt

import torch
from torch import Tensor

from bisector.errors import require
from bisector.statistics.moments import precise

EMBEDDING_SCALES = ("raw", "unit")


def require_finite(name: str, embeddings: Tensor) -> None:
    """Raise `ArgumentError`, naming the first row that is not finite, if there is one."""
    # The extremes are NaN or infinite where a number is: one look, and one for each number only to name the row.
    if not embeddings.numel() or all(bool(end.isfinite()) for end in embeddings.aminmax()):
        return
    faulty = (~embeddings.isfinite().all(dim=1)).nonzero().flatten().tolist()
    require(not faulty, name, f"NaN or infinity in row {faulty[0] if faulty else None}", "finite numbers")


def on_scale(
    embeddings: Tensor,  # (B, D)
    scale: str,
) -> Tensor:
    """The rows as they are measured, on the CPU, float32 or, where they come so or do not fit, float64.

    `"raw"`: as they are. `"unit"`: every row at length `sqrt(D)`, so that each coordinate has unit mean
    square; a zero row has no direction and stays zero.

    >>> on_scale(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "unit")
    tensor([[0.8485, 1.1314],
            [0.0000, 0.0000]])
    """
    rows = precise(embeddings)
    if scale == "raw" or not len(rows):
        return rows
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    if rows.dtype == torch.float32 and bool(((lengths > 0) & (lengths < 1e-12)).any()):
        rows = rows.double()
    factors = (sqrt(rows.shape[1]) / lengths).masked_fill(lengths == 0, 0)
    scaled: Tensor = rows * factors.to(rows.dtype)
    return scaled


def rows_by_class(
    embeddings: Tensor,  # (B, D)
    labels: Tensor,  # (B,)
) -> dict[int, Tensor]:
    """The rows of each class that occurs, in their order.

    >>> rows_by_class(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([4, 0, 4]))
    {0: tensor([[2.]]), 4: tensor([[1.], [3.]])}
    """
    sizes = labels.bincount()
    classes = sizes.nonzero().flatten()
    parts = torch.split(embeddings[labels.argsort(stable=True)], sizes[classes].tolist())
    return dict(zip(classes.tolist(), parts, strict=True))
