"""The loss over a few of the classes: those of the batch and a random share of the others."""

import inspect
from typing import Any

from torch import Tensor

from bisector.engine.dispatch import check_arguments, check_class_vector, check_shapes, margin_cross_entropy
from bisector.engine.eager import only_plain_calls, uncompiled
from bisector.engine.placement import is_sharded
from bisector.engine.row_gradient import take_rows
from bisector.engine.sampled_classes import IGNORED, SampledClasses, sample_classes
from bisector.errors import require, require_number
from bisector.functional.margins import Margin
from bisector.functional.row_losses import RowLoss


@uncompiled
def sampled_margin_cross_entropy(
    embeddings: Tensor,  # (B, D)
    weight: Tensor,  # (C, D), or (C, K, D)
    labels: Tensor,  # (B,)
    *,
    fraction: float | None = None,
    classes: Tensor | None = None,
    sparse: bool = True,
    margin: Margin | None = None,
    offset: Tensor | None = None,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    **options: Any,
) -> Tensor:
    r"""Return `bisector.margin_cross_entropy` as if a few of the classes were the only ones.

    The softmax runs over them alone, and smoothing is spread over them. Rows of the weights (and of the offset)
    that are not among them are not read and get no gradient: with `sparse` it is a `torch.sparse_coo_tensor` of
    their rows, which `bisector.RowwiseAdamW`, `torch.optim.SparseAdam`, `torch.optim.Adagrad` and `torch.optim.SGD`
    (without weight decay) take.

    Args:
        embeddings: (B, D).
        weight: the weights of all C classes.
        labels: 0..C-1 or `ignore_index`. Probabilities are refused: they ask something of every class.
        fraction: draws the classes by `sample_classes`; given in place of `classes`. Where the classes are
            sharded, the first process draws for all, and the gradients are dense (a `DTensor` has no other).
        classes: (S,) ascending, each once, all labels among them.
        sparse: whether the gradients of weight and offset are sparse; else they have zeros in all other rows.
        margin: its rules see the classes' own numbers 0..C-1, not their places among the drawn ones.
        offset: (C,).
        class_weight: (C,).
        ignore_index: rows with this label count for nothing.
        options: the others of `bisector.margin_cross_entropy`.

    Raises:
        ArgumentError: as `bisector.margin_cross_entropy` does; labels are probabilities; a label is not among the
            classes; the classes are not ascending; not just one of fraction and classes is given.

    Source: An et al. 2021, *Partial FC*, arXiv 2010.05222; An et al., CVPR 2022.

    >>> import torch
    >>> from torch.nn import functional as F
    >>> x, w, y = torch.eye(2, 3), torch.eye(4, 3), torch.tensor([0, 1])
    >>> loss = sampled_margin_cross_entropy(x, w, y, classes=torch.tensor([0, 1, 3]), scale=2.0)
    >>> float(loss) == float(F.cross_entropy(2.0 * x @ w[[0, 1, 3]].T, y))
    True
    """
    if is_sharded(weight):
        parts: dict[str, Any] = {"margin": margin, "offset": offset, "class_weight": class_weight}
        parts |= {"ignore_index": ignore_index, **options}
        return _sharded(embeddings, weight, labels, fraction, classes, parts)
    check_shapes(embeddings, weight, labels)
    plain = only_plain_calls(labels)
    require(plain is None, "sample", f"{fraction} with {plain}", "1: there no classes can be drawn")
    hard, shape = labels.dim() == 1, tuple(labels.shape)
    require(hard, "labels", f"probabilities, shape {shape}", "classes (B,) where classes are sampled")
    one = (fraction is None) != (classes is None)
    require(one, "fraction", f"{fraction} with classes={classes}", "just one of fraction and classes")
    for name, vector in (("offset", offset), ("class_weight", class_weight)):
        if vector is not None:
            check_class_vector(name, vector, len(weight))
    if margin is not None and margin.pairwise is not None:
        check_class_vector("margin.pairwise.r", margin.pairwise.r, len(weight))
    if fraction is not None:
        classes = sample_classes(labels, len(weight), fraction, ignore_index=ignore_index)
    assert classes is not None
    drawn = SampledClasses.of(classes, len(weight))
    return margin_cross_entropy(
        embeddings,
        take_rows(weight, drawn.classes, sparse=sparse),
        drawn.labels(labels, ignore_index),
        margin=None if margin is None else drawn.margin(margin),
        offset=None if offset is None else take_rows(offset, drawn.classes, sparse=sparse),
        class_weight=None if class_weight is None else drawn.vector(class_weight),
        ignore_index=IGNORED,
        **options,
    )


def _sharded(
    embeddings: Tensor,
    weight: Any,
    labels: Tensor,
    fraction: float | None,
    classes: Tensor | None,
    parts: Any,
) -> Tensor:
    """Compute the loss where processes hold different classes; what one is told is wrong, all are told."""
    from bisector.engine.sharded import sharded_margin_cross_entropy

    options = inspect.signature(margin_cross_entropy).parameters.values()
    defaults = {option.name: option.default for option in options if option.kind is option.KEYWORD_ONLY}
    parts = {**defaults, **parts}
    parts |= {"margin": parts["margin"] or Margin(), "row_loss": parts["row_loss"] or RowLoss()}

    def check() -> None:
        one = fraction is not None and classes is None
        require(
            one, "fraction", f"{fraction} with classes={classes}", "a fraction, where classes are sharded"
        )
        require_number("sample", fraction, above=0, most=1)
        check_arguments(embeddings, weight, labels, **{k: v for k, v in parts.items() if k != "budget"})

    loss: Tensor = sharded_margin_cross_entropy(
        embeddings, weight, labels, check=check, fraction=fraction, **parts
    )
    return loss
