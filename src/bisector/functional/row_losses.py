"""Row losses: from the logits of one row to its loss, and from the rows to a number."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.errors import require, require_choice, require_number

Reduction: TypeAlias = Literal["mean", "sum", "none"]
REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")

RowLossKind: TypeAlias = Literal["log", "probability"]
ROW_LOSSES: tuple[RowLossKind, ...] = ("log", "probability")


@dataclass(frozen=True)
class RowLoss:
    r"""The loss of one row of logits z with target distribution q over the classes.

    .. math::
        \text{log:}\; -\sum_j w_j q_j \log \mathrm{softmax}(z)_j, \qquad
        \text{probability:}\; -w_y\,\mathrm{softmax}(z)_y

    with :math:`q = (1 - \varepsilon)\,\mathrm{onehot}(y) + \varepsilon / C + a`.

    Args:
        kind: "log" is cross-entropy; "probability" leaves the logarithm out, so its loss is minus the target's
            probability, and takes neither soft labels nor smoothing.
        label_smoothing: epsilon, in [0, 1], as in `torch.nn.functional.cross_entropy`.
        added_target: a, a mass added to the target of every class without normalising again.

    Raises:
        ArgumentError: a value is out of its range, or does not go with the kind.
    """

    kind: RowLossKind = "log"
    label_smoothing: float = 0.0
    added_target: float = 0.0

    def __post_init__(self) -> None:
        require_choice("row_loss", self.kind, ROW_LOSSES)
        require_number("label_smoothing", self.label_smoothing, least=0, most=1)
        require_number("added_target", self.added_target, least=0)
        for name, mass in (("label_smoothing", self.label_smoothing), ("added_target", self.added_target)):
            fits = mass == 0 or self.kind == "log"
            require(
                fits, name, f"{mass} with row_loss='probability'", "row_loss='log', which takes soft targets"
            )

    def rows(
        self,
        logits: Tensor,  # (B, C)
        labels: Tensor,  # (B,) in 0..C-1, or (B, C) probabilities
        class_weight: Tensor | None = None,  # (C,)
    ) -> Tensor:
        """Return the (B,) losses of the rows, weighted by class."""
        log_p = torch.log_softmax(logits, dim=1)
        if labels.dim() == 1:
            mine = log_p.gather(1, labels[:, None])[:, 0]
            mine = mine.exp() if self.kind == "probability" else mine
            loss = -mine if class_weight is None else -mine * class_weight[labels]
        else:
            loss = -(log_p * labels if class_weight is None else log_p * labels * class_weight).sum(1)
        loss = (1 - self.label_smoothing) * loss
        if self.label_smoothing or self.added_target:
            everyone = self.label_smoothing / logits.shape[1] + self.added_target
            loss = loss - everyone * (log_p if class_weight is None else log_p * class_weight).sum(1)
        return loss


def reduce_rows(
    rows: Tensor,  # (B,)
    labels: Tensor,  # (B,) or (B, C)
    kept: Tensor | None,  # (B,) bool; None keeps all
    class_weight: Tensor | None,  # (C,)
    reduction: Reduction,
) -> Tensor:
    """Reduce as `torch.nn.functional.cross_entropy` does, but 0 instead of NaN where no row counts.

    "mean" divides by the summed weights of the kept rows' classes; with probabilities, by their number. Where these
    weights are all 0 the mean is 0, smoothing or not: it is one over the rows, and none of them has a part in it.
    """
    if kept is not None:
        rows = torch.where(kept, rows, 0)
    if reduction == "none":
        return rows
    if reduction == "sum":
        return rows.sum()
    each = torch.ones_like(rows) if class_weight is None or labels.dim() == 2 else class_weight[labels]
    total = (each if kept is None else torch.where(kept, each, 0)).sum()
    return rows.sum() / torch.where(total > 0, total, math.inf)
