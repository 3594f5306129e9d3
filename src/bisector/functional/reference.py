"""A margin loss as one frozen object, and the plain dense formula of it, short enough to check by eye."""

from dataclasses import dataclass, field

from torch import Tensor

from bisector.functional.margins import Margin
from bisector.functional.row_losses import Reduction, RowLoss, reduce_rows
from bisector.functional.scores import Score, class_scores


@dataclass(frozen=True, eq=False)
class LossSpec:
    """What `bisector.margin_cross_entropy` is told of a loss; its documentation explains each part."""

    score: Score = "cosine"
    margin: Margin = field(default_factory=Margin)
    row_loss: RowLoss = field(default_factory=RowLoss)
    scale: float | Tensor = 30.0
    offset: Tensor | None = None  # (C,)
    class_weight: Tensor | None = None  # (C,)
    ignore_index: int = -100
    reduction: Reduction = "mean"


def dense_loss(
    embeddings: Tensor,  # (B, D)
    weight: Tensor,  # (C, D) or (C, K, D)
    labels: Tensor,  # (B,) classes, or (B, C) probabilities
    spec: LossSpec,
) -> Tensor:
    """Return the loss that `bisector.margin_cross_entropy` documents, by the formula itself."""
    kept = labels != spec.ignore_index if labels.dim() == 1 else None
    target = labels.argmax(1) if kept is None else labels.where(kept, 0)
    lengths = spec.margin.lengths(embeddings, kept)
    logits = spec.scale * spec.margin(class_scores(embeddings, weight, spec.score), target, *lengths)
    if spec.offset is not None:
        logits = logits + spec.offset.to(logits.dtype)
    class_weight = None if spec.class_weight is None else spec.class_weight.to(logits.dtype)
    wanted = labels if kept is None else target
    rows = spec.row_loss.rows(logits, wanted, class_weight)
    return reduce_rows(rows, wanted, kept, class_weight, spec.reduction)
