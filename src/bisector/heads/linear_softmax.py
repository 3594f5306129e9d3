"""LinearSoftmax: the control without normalisation."""

from typing import Unpack

import torch
from torch import nn

from bisector.functional.scores import Score
from bisector.heads._base import Head, HeadOptions


class LinearSoftmax(Head):
    r"""Plain softmax cross-entropy over a linear layer: the control of every comparison.

    .. math:: z_j = x \cdot W_j + b_j

    Args:
        in_features: D.
        num_classes: C.
        bias: whether there is a b.
        options: those of `Head`.

    >>> head = LinearSoftmax(8, 3)
    >>> loss = head(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
    >>> head.logits(torch.randn(4, 8)).shape
    torch.Size([4, 3])
    """

    label = "Softmax"
    summary = "the usual last layer: inner products with the class weights, and a bias"

    score: Score = "dot"

    def __init__(
        self, in_features: int, num_classes: int, *, bias: bool = True, **options: Unpack[HeadOptions]
    ) -> None:
        super().__init__(in_features, num_classes, **options)
        if bias:
            self.bias = nn.Parameter(torch.zeros_like(self.weight.flatten(1)[:, 0]))
