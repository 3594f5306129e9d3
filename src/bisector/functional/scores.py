"""Scores: how near an embedding is to a class, before any margin."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from bisector.functional.cosine import unit

Score: TypeAlias = Literal["cosine", "dot"]
SCORES: tuple[Score, ...] = ("cosine", "dot")


def working_dtype(embeddings: Tensor, weight: Tensor) -> torch.dtype:
    """Return the dtype in which a loss of these is computed: the wider of theirs, float32 or better."""
    return torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float32)


def class_scores(
    embeddings: Tensor,  # (B, D)
    weight: Tensor,  # (C, D), or (C, K, D) with K sub-centers a class
    score: Score = "cosine",
) -> Tensor:
    r"""Return the (B, C) scores of embeddings against classes.

    .. math::
        \text{cosine:}\; \max_k \frac{x \cdot W_{jk}}{|x||W_{jk}|}, \qquad
        \text{dot:}\; \max_k x \cdot W_{jk}

    The maximum over K sub-centers is Deng et al. 2020, *Sub-center ArcFace*. Vectors are normalised in float32
    or better; under autocast the product itself runs in the autocast dtype; the scores come back in float32
    or better, so that margins are never computed in half precision.

    >>> class_scores(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    tensor([[0.6000, 0.8000]])
    """
    precise = working_dtype(embeddings, weight)
    x, w = embeddings.to(precise), weight.to(precise)
    if score == "cosine":
        x, w = unit(x), unit(w)
    products = F.linear(x, w.flatten(0, -2)).to(precise)
    return products if weight.dim() == 2 else products.view(-1, *weight.shape[:2]).max(dim=2).values
