"""The plain dense loss: every (B, C) matrix written out, short enough to check by eye."""

from torch import Tensor

from bisector.functional.margins import Margin
from bisector.functional.row_losses import Reduction, RowLoss, reduce_rows
from bisector.functional.scores import Score, class_scores


def dense_margin_cross_entropy(
    embeddings: Tensor,  # (B, D)
    weight: Tensor,  # (C, D) or (C, K, D)
    labels: Tensor,  # (B,) classes, or (B, C) probabilities
    *,
    score: Score,
    margin: Margin,
    row_loss: RowLoss,
    scale: float | Tensor,
    offset: Tensor | None,  # (C,)
    class_weight: Tensor | None,  # (C,)
    ignore_index: int,
    reduction: Reduction,
) -> Tensor:
    """Return the loss that `bisector.margin_cross_entropy` documents, by the formula itself."""
    kept = labels != ignore_index if labels.dim() == 1 else None
    target = labels.argmax(1) if kept is None else labels.where(kept, 0)
    logits = scale * margin(class_scores(embeddings, weight, score), target)
    if offset is not None:
        logits = logits + offset.to(logits.dtype)
    if class_weight is not None:
        class_weight = class_weight.to(logits.dtype)
    rows = row_loss.rows(logits, target if kept is not None else labels, class_weight)
    return reduce_rows(rows, target if kept is not None else labels, kept, class_weight, reduction)
