"""What a model said of each row, from its scores where it did not say it itself."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def verdicts(
    scores: Tensor | None,  # (N, C) logits
    labels: Tensor,  # (N,)
    predictions: Tensor | None,  # (N,)
    losses: Tensor | None,  # (N,)
) -> tuple[Tensor | None, Tensor | None]:
    """Predictions and losses: those that are there, else the class of the largest score and the cross-entropy.

    A row that has neither a prediction nor finite scores has prediction -1; a loss made of scores that are not
    finite is NaN.

    >>> verdicts(torch.tensor([[0.0, 2.0]]), torch.tensor([0]), None, None)
    (tensor([1]), tensor([2.1269]))
    """
    if scores is None:
        return predictions, losses
    scored = scores.isfinite().all(dim=1)
    own = scores.nan_to_num().argmax(dim=1).where(scored, torch.tensor(-1))
    predictions = own if predictions is None else predictions.where(predictions >= 0, own)
    return predictions, cross_entropy(scores, labels, reduction="none") if losses is None else losses
