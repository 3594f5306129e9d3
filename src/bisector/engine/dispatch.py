"""The margin loss as one function: checks its arguments, then chooses who computes it."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

from bisector.checks import require_classes, require_embeddings
from bisector.errors import require, require_choice
from bisector.functional.margins import Margin
from bisector.functional.reference import dense_margin_cross_entropy
from bisector.functional.row_losses import REDUCTIONS, Reduction, RowLoss
from bisector.functional.scores import SCORES, Score

Backend: TypeAlias = Literal["auto", "dense"]
BACKENDS: dict[Backend, Callable[..., Tensor]] = {
    "auto": dense_margin_cross_entropy,
    "dense": dense_margin_cross_entropy,
}


def margin_cross_entropy(
    embeddings: Tensor,  # (B, D)
    weight: Tensor,  # (C, D), or (C, K, D)
    labels: Tensor,  # (B,) classes, or (B, C) probabilities
    *,
    score: Score = "cosine",
    margin: Margin | None = None,
    row_loss: RowLoss | None = None,
    scale: float | Tensor = 30.0,
    offset: Tensor | None = None,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
) -> Tensor:
    r"""Return the softmax cross-entropy of scores moved by a margin: score -> logits -> row loss.

    .. math::
        z_y = s\,t(\cos_y) + b_y, \qquad z_j = s\,(\psi(\theta_j \pm m_{yj}) + \mathrm{shift}) + b_j, \qquad
        L = -\log \mathrm{softmax}(z)_y

    Every head of bisector is this function with a choice of the parts.

    Args:
        embeddings: (B, D), B at least 1, any floating dtype.
        weight: (C, D) class weights, or (C, K, D) with K sub-centers a class.
        labels: (B,) classes 0..C-1 or `ignore_index`; or (B, C) probabilities, whose most probable class
            (the first of equals) takes the target's margin. A label that is smoothed by hand therefore gives
            what `label_smoothing` gives.
        score: "cosine", or "dot" for the plain inner product.
        margin: what is done to target and competitors; nothing if None.
        row_loss: cross-entropy if None.
        scale: s, a number or a 0-d tensor, which may require a gradient.
        offset: (C,) b, added after scaling: a bias, or the logarithm of a prior.
        class_weight: (C,) as `weight` of `torch.nn.functional.cross_entropy`.
        ignore_index: rows with this label count for nothing.
        reduction: "mean" (divides by the summed class weights), "sum" or "none".
        backend: who computes it: "dense" is the plain formula; "auto" chooses.

    Returns:
        A scalar, or (B,) losses with ``reduction="none"``; float32 or better. A batch whose every row is ignored
        gives 0, not NaN.

    Raises:
        ArgumentError: a shape, a dtype, a label or a choice is not legal.

    >>> import torch
    >>> from torch.nn import functional as F
    >>> x, w, y = torch.eye(2, 3), torch.eye(4, 3), torch.tensor([0, 1])
    >>> float(margin_cross_entropy(x, w, y, scale=2.0)) == float(F.cross_entropy(2.0 * x @ w.T, y))
    True
    """
    require_choice("backend", backend, BACKENDS)
    require_choice("score", score, SCORES)
    require_choice("reduction", reduction, REDUCTIONS)
    margin = Margin() if margin is None else margin
    row_loss = RowLoss() if row_loss is None else row_loss
    _check_shapes(embeddings, weight, labels)
    num_classes = weight.shape[0]
    if labels.dim() == 1:
        require_classes("labels", labels, num_classes, ignore_index=ignore_index)
        labels = labels.long()
    else:
        soft = row_loss.kind == "log"
        require(
            soft, "labels", "probabilities with row_loss='probability'", "classes (B,) of an integer dtype"
        )
    if isinstance(scale, Tensor):
        require(scale.dim() == 0, "scale", f"shape {tuple(scale.shape)}", "a number, or a 0-d tensor")
    angles = score == "dot" and margin.pairwise is not None
    require(not angles, "score", "'dot' with a pairwise margin", "'cosine', since only cosines have angles")
    for name, vector in (("offset", offset), ("class_weight", class_weight)):
        if vector is not None:
            _check_class_vector(name, vector, num_classes)
    if margin.pairwise is not None:
        _check_class_vector("margin.pairwise.r", margin.pairwise.r, num_classes)
    return BACKENDS[backend](
        embeddings,
        weight,
        labels,
        score=score,
        margin=margin,
        row_loss=row_loss,
        scale=scale,
        offset=offset,
        class_weight=class_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def _check_shapes(embeddings: Tensor, weight: Tensor, labels: Tensor) -> None:
    for name, given in (("weight", weight), ("labels", labels)):
        require(isinstance(given, Tensor), name, type(given).__name__, "a tensor")
    shape = f"shape {tuple(weight.shape)}"
    require(weight.is_floating_point(), "weight", weight.dtype, "a floating dtype")
    require(weight.dim() in {2, 3}, "weight", shape, "(C, D), or (C, K, D) with sub-centers")
    require_embeddings("embeddings", embeddings, weight.shape[-1])
    rows, classes = embeddings.shape[0], weight.shape[0]
    require(rows > 0, "embeddings", f"shape {tuple(embeddings.shape)}", "at least one row")
    legal = f"({rows},) classes, or ({rows}, {classes}) probabilities"
    require(labels.shape in {(rows,), (rows, classes)}, "labels", f"shape {tuple(labels.shape)}", legal)
    floating = labels.dim() == 1 or labels.is_floating_point()
    require(
        floating,
        "labels",
        f"{labels.dtype} of shape {tuple(labels.shape)}",
        "probabilities of a floating dtype",
    )


def _check_class_vector(name: str, vector: Tensor, num_classes: int) -> None:
    require(vector.shape == (num_classes,), name, f"shape {tuple(vector.shape)}", f"({num_classes},)")
