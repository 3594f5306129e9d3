"""LogitAdjusted: softmax that knows how frequent each class was."""

from typing import Unpack

from bisector.heads._base import HeadOptions
from bisector.heads.linear_softmax import LinearSoftmax


class LogitAdjusted(LinearSoftmax):
    r"""Softmax with the logarithm of the prior added to the training logits.

    .. math:: z_j = x \cdot W_j + b_j + \tau \log \pi_j, \qquad \pi_j = n_j / \sum_k n_k

    At inference the prior is left out, which is what moves the boundaries. The same prior goes on any cosine
    head by its own options: ``IGAM(512, 1203, class_counts=counts, tau=1.0)``.

    Args:
        in_features: D.
        num_classes: C.
        bias: whether there is a b.
        options: those of `Head`; class_counts is needed, and tau is 1 unless given.

    Raises:
        ArgumentError: class_counts are missing.

    Source: Menon et al., ICLR 2021.

    >>> import torch
    >>> head = LogitAdjusted(8, 3, class_counts=[100, 10, 1])
    >>> head.prior().exp()
    tensor([0.9009, 0.0901, 0.0090])
    """

    label = "Logit-adjusted"
    summary = "softmax with the logarithm of the class frequencies added to the logits in training"
    needs_counts = True

    def __init__(
        self, in_features: int, num_classes: int, *, bias: bool = True, **options: Unpack[HeadOptions]
    ) -> None:
        options.setdefault("tau", 1.0)
        super().__init__(in_features, num_classes, bias=bias, **options)
