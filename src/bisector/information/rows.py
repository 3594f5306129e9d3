"""Embeddings as they come in: are they finite, on which scale are they measured, which rows are whose."""

from collections.abc import Iterator
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor

from bisector.errors import require
from bisector.statistics.directions import near_one
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
    """The rows as they are measured, on the CPU, float32 or, where they come so or are raw and do not fit, float64.

    `"raw"`: as they are. `"unit"`: every row at length `sqrt(D)`, so that each coordinate has unit mean
    square; a zero row has no direction and stays zero.

    >>> on_scale(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "unit")
    tensor([[0.8485, 1.1314],
            [0.0000, 0.0000]])
    """
    if scale == "raw" or not embeddings.numel():
        return precise(embeddings)
    rows = near_one(embeddings.cpu())  # some accelerators have no float64 to measure lengths in
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    factors = (sqrt(rows.shape[1]) / lengths).masked_fill(lengths == 0, 0)
    scaled: Tensor = rows * factors.to(rows.dtype)
    return scaled


def places_by_class(
    labels: Tensor,  # (B,)
) -> Iterator[tuple[int, Tensor]]:
    """Each class that occurs, ascending, and where its rows are, in their order.

    >>> [(c, places.tolist()) for c, places in places_by_class(torch.tensor([4, 0, 4]))]
    [(0, [1]), (4, [0, 2])]
    """
    if not len(labels):
        return
    order = labels.argsort(stable=True)
    counts = labels.bincount()
    classes = counts.nonzero().flatten()
    ends = [0, *counts[classes].cumsum(0).tolist()]
    for c, (start, end) in zip(classes.tolist(), pairwise(ends), strict=True):
        yield c, order[start:end]
