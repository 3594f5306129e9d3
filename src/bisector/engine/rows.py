"""What the row loss asks of the engine: a row's loss and the pull on its logits, from a few numbers a row."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.functional.row_losses import Reduction, RowLoss


@dataclass(frozen=True, eq=False)
class RowTerms:
    r"""The row loss of a batch, taken apart so that it needs no matrix.

    With z the logits of a row, y its target and lse the logarithm of the sum of their exponentials,

    .. math::
        L = Q\,\mathrm{lse} - h\,z_y - \sum_{j \ne y} d_j z_j, \qquad
        \frac{\partial L}{\partial z_j} = Q\,p_j - d_j, \qquad
        \frac{\partial L}{\partial z_y} = Q\,p_y - h

    where d is what the target distribution asks of the competitors, times the class weights, h what it asks of
    the target, and Q the sum of all. For the loss without a logarithm, :math:`L = -w_y p_y`, both Q and h
    are :math:`w_y p_y` and d is 0.

    Attributes:
        row_loss: which.
        mass: (B,) Q.
        own: (B,) h.
        everyone: what each competitor is to have, times its class weight; 0 without smoothing.
        soft: (B, C) probabilities where the labels are such.
        class_weight: (C,) or None.
        row_weight: (B,) weight of each row in the reduction "mean" or "sum"; 0 for ignored rows.
        kept: (B,) 1, or 0 for ignored rows.
    """

    row_loss: RowLoss
    mass: Tensor
    own: Tensor
    everyone: float
    soft: Tensor | None
    class_weight: Tensor | None
    row_weight: Tensor
    kept: Tensor

    @classmethod
    def of(
        cls,
        row_loss: RowLoss,
        labels: Tensor,  # (B,) classes, or (B, C) probabilities
        target: Tensor,  # (B,) in 0..C-1
        kept: Tensor | None,  # (B,) bool
        class_weight: Tensor | None,  # (C,)
        num_classes: int,
        reduction: Reduction,
        dtype: torch.dtype,
    ) -> "RowTerms":
        """Take the row loss apart."""
        class_weight = None if class_weight is None else class_weight.detach().to(target.device, dtype)
        ones = torch.ones(len(target), dtype=dtype, device=target.device)
        each = ones if class_weight is None else class_weight[target]
        everyone = row_loss.label_smoothing / num_classes + row_loss.added_target
        rest = 1 - row_loss.label_smoothing
        all_weights = float(num_classes) if class_weight is None else class_weight.sum()
        soft = labels.detach() if labels.dim() == 2 else None
        if soft is None:
            mass, own = rest * each + everyone * all_weights, (rest + everyone) * each
            counted = each
        else:
            wanted = soft.sum(1, dtype=dtype) if class_weight is None else _weighted_sum(soft, class_weight)
            mass = rest * wanted + everyone * all_weights
            own = (rest * soft.gather(1, target[:, None])[:, 0].to(dtype) + everyone) * each
            counted = ones
        keep = ones if kept is None else kept.to(dtype)
        total = (counted * keep).sum()
        row_weight = keep / torch.where(total > 0, total, math.inf) if reduction == "mean" else keep
        return cls(row_loss, mass, own, everyone, soft, class_weight, row_weight, keep)

    @property
    def plain(self) -> bool:
        """Whether the competitors are to have nothing: d is 0."""
        return self.soft is None and not self.everyone

    @property
    def uniform(self) -> bool:
        """Whether every row asks the same of a competitor, so that d is a vector over the classes."""
        return self.soft is None

    def competitor_targets(
        self,
        rows: slice,
        classes: slice,  # of all C
    ) -> Tensor | float:
        """Return d for a block: (c, b), or (c, 1), or one number; the targets' own entries count for nothing."""
        weights = 1.0 if self.class_weight is None else self.class_weight[classes, None]
        if self.soft is None:
            return self.everyone * weights
        soft = self.soft[rows, classes].t().to(self.mass.dtype)
        return (soft * (1 - self.row_loss.label_smoothing)).add_(self.everyone).mul_(weights)

    def losses(
        self,
        nll: Tensor,  # (B,) lse - z_y
        own_logit: Tensor,  # (B,) z_y
        competitors: Tensor,  # (B,) the sum over d_j z_j
    ) -> Tensor:
        """Return the (B,) losses L, 0 for ignored rows; of a confident row the nll keeps all digits."""
        if self.row_loss.kind == "probability":
            rows = -self.own * (-nll).exp()
        elif self.plain:
            rows = self.mass * nll
        else:
            rows = self.mass * nll + (self.mass - self.own) * own_logit - competitors
        return torch.where(self.kept > 0, rows, 0)

    def total_pull(
        self,
        nll: Tensor,  # (b,)
        rows: slice = slice(None),
    ) -> Tensor:
        """Return the (b,) Q of some rows."""
        return self.own[rows] * (-nll).exp() if self.row_loss.kind == "probability" else self.mass[rows]

    def own_pull(
        self,
        nll: Tensor,  # (B,)
    ) -> Tensor:
        """Return the (B,) derivatives of L by z_y: Q p_y - h, without the difference of nearly equal numbers."""
        mass = self.total_pull(nll)
        rest = 0 if self.row_loss.kind == "probability" else self.mass - self.own
        return mass * torch.expm1(-nll) + rest


def _weighted_sum(
    soft: Tensor,  # (B, C)
    weights: Tensor,  # (C,)
    block: int = 4096,
) -> Tensor:
    """Return soft @ weights in the weights' dtype without a copy of the whole."""
    total = weights.new_zeros(len(soft))
    for start in range(0, len(weights), block):
        here = slice(start, start + block)
        total += soft[:, here].to(weights.dtype) @ weights[here]
    return total
