"""The seesaw loss as a row loss: cross-entropy whose competitors count more or less."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.functional.row_losses import RowLoss


@dataclass(frozen=True, eq=False)
class SeesawLoss(RowLoss):
    r"""Cross-entropy of :math:`z_j + \log S_{yj}`, which is the seesaw loss that `bisector.Seesaw` documents.

    Args:
        log_counts: (C,) logarithms of N.
        p: of the mitigation.
        q: of the compensation.
        eps: the least probability of the true class that the compensation believes.
        background: a class whose row and column have S = 1, or None.
    """

    log_counts: Tensor | None = None
    p: float = 0.8
    q: float = 2.0
    eps: float = 0.01
    background: int | None = None

    def __post_init__(self) -> None:
        if (
            not torch.compiler.is_compiling()
        ):  # a compiler may have made symbols of the numbers, which were checked
            super().__post_init__()

    def rows(
        self,
        logits: Tensor,  # (B, C)
        labels: Tensor,  # (B,) in 0..C-1, or (B, C) probabilities
        class_weight: Tensor | None = None,  # (C,)
    ) -> Tensor:
        """Return the (B,) losses of the rows, weighted by class."""
        target = labels if labels.dim() == 1 else labels.argmax(1)
        return super().rows(logits + self.log_factors(logits.detach(), target), labels, class_weight)

    def log_factors(
        self,
        logits: Tensor,  # (B, C)
        target: Tensor,  # (B,)
    ) -> Tensor:
        """Return the (B, C) logarithms of S; 0 at the target itself."""
        y = target[:, None]
        assert self.log_counts is not None
        log_n = self.log_counts.to(logits)
        if self.background is not None:
            apart = torch.arange(logits.shape[1], device=logits.device) == self.background
            logits = logits.masked_fill(apart, -math.inf)
        log_sigma = logits.log_softmax(1)
        mine = log_sigma.gather(1, y).clamp_min(math.log(self.eps))
        # In place, since new (B, C) matrices take longer than what is done to them.
        factors = (log_sigma - mine).clamp_min_(0).mul_(self.q)
        factors.add_((log_n - log_n[y]).clamp_max_(0).mul_(self.p))
        if self.background is not None:
            factors = factors.masked_fill(apart | (y == self.background), 0.0)
        return factors
