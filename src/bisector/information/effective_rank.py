"""How many directions a class's embeddings use."""

import torch
from torch import Tensor

from bisector.errors import require


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
