"""The margin loss as one function: checks its arguments, then chooses who computes it."""

import importlib.util
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.checks import require_classes, require_embeddings, sizes_are_traced
from bisector.engine.budget import MemoryBudget
from bisector.engine.chunked import chunked_margin_cross_entropy
from bisector.engine.competitors import Competitors
from bisector.engine.eager import only_plain_calls
from bisector.engine.placement import is_sharded
from bisector.errors import require, require_choice, require_number
from bisector.functional.margins import Margin
from bisector.functional.reference import dense_margin_cross_entropy
from bisector.functional.row_losses import REDUCTIONS, Reduction, RowLoss
from bisector.functional.scores import SCORES, Score

Backend: TypeAlias = Literal["auto", "dense", "chunked", "triton"]
BACKENDS: tuple[Backend, ...] = ("auto", "dense", "chunked", "triton")

# Up to so many scores and weights the dense formula is the faster one, and its matrices are small.
FEW_SCORES = 1 << 17
FEW_WEIGHTS = 1 << 20


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
    budget: MemoryBudget | None = None,
) -> Tensor:
    r"""Return the softmax cross-entropy of scores moved by a margin: score -> logits -> row loss.

    .. math::
        z_y = s\,t(\cos_y) + b_y, \qquad z_j = s\,(\psi(\theta_j \pm m_{yj}) + \mathrm{shift}) + b_j, \qquad
        L = -\log \mathrm{softmax}(z)_y

    Every head of bisector is this function with a choice of the parts.

    Args:
        embeddings: (B, D), B at least 1, any floating dtype.
        weight: (C, D) class weights, or (C, K, D) with K sub-centers a class. As a `DTensor` that is sharded over
            the classes, it makes the loss that of all processes' rows: see `bisector.shard_classes`.
        labels: (B,) classes 0..C-1 or `ignore_index`; or (B, C) probabilities, whose most probable class
            (the first of equals) takes the target's margin. A label that is smoothed by hand therefore gives
            what `label_smoothing` gives.
        score: "cosine", or "dot" for the plain inner product.
        margin: what is done to target and competitors; nothing if None.
        row_loss: cross-entropy if None.
        scale: s, a number or a 0-d tensor, which may require a gradient.
        offset: (C,) b, added after scaling: a bias, or the logarithm of a prior.
        class_weight: (C,) as `weight` of `torch.nn.functional.cross_entropy`.
        ignore_index: rows with this label count for nothing; of probabilities none can, so that a class is refused
            there.
        reduction: "mean" (divides by the summed class weights), "sum" or "none".
        backend: who computes it. "dense" is the plain formula with its (B, C) matrices; it alone can be
            differentiated twice. "chunked" computes the same numbers within a budget of memory, near the speed
            of the bare matrix products, on any device. "triton" is "chunked" with its elementwise part in Triton
            kernels, on CUDA. "auto" takes the dense one for small problems without a budget, else the
            fastest that there is.
        budget: the scratch memory of "chunked" and "triton"; `bisector.MemoryBudget()` if None.

    Returns:
        A scalar, or (B,) losses with ``reduction="none"``; float32 or better. A batch whose every row is ignored,
        or is of a class of weight 0, gives 0, not NaN.

    Raises:
        ArgumentError: a shape, a dtype, a label or a choice is not legal.

    >>> import torch
    >>> from torch.nn import functional as F
    >>> x, w, y = torch.eye(2, 3), torch.eye(4, 3), torch.tensor([0, 1])
    >>> float(margin_cross_entropy(x, w, y, scale=2.0)) == float(F.cross_entropy(2.0 * x @ w.T, y))
    True
    """
    margin = Margin() if margin is None else margin
    row_loss = RowLoss() if row_loss is None else row_loss
    legal = budget is None or isinstance(budget, MemoryBudget)
    require(legal, "budget", repr(budget), "a bisector.MemoryBudget, or None")
    check = partial(
        check_arguments,
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
        backend=backend,
    )
    loss: Callable[..., Tensor]
    if is_sharded(weight):
        from bisector.engine.sharded import sharded_margin_cross_entropy

        # What one process is told is wrong must be told to all, so the checks are made there.
        loss = partial(sharded_margin_cross_entropy, check=check, backend=backend, budget=budget)
    else:
        check()
        labels = labels if labels.dim() == 2 else labels.long()
        loss = _chosen(backend, embeddings, weight, labels, margin, class_weight, budget)
    return loss(
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


def check_arguments(
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    score: Score,
    margin: Margin,
    row_loss: RowLoss,
    scale: float | Tensor,
    offset: Tensor | None,
    class_weight: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    backend: Backend,
) -> None:
    """Raise `ArgumentError` at the first argument of `margin_cross_entropy` that is not legal."""
    require(isinstance(margin, Margin), "margin", type(margin).__name__, "a bisector.Margin")
    require(isinstance(row_loss, RowLoss), "row_loss", type(row_loss).__name__, "a bisector.RowLoss")
    require_choice("backend", backend, BACKENDS)
    require_choice("score", score, SCORES)
    require_choice("reduction", reduction, REDUCTIONS)
    check_shapes(embeddings, weight, labels)
    num_classes = weight.shape[0]
    if labels.dim() == 1:
        require_classes("labels", labels, num_classes, ignore_index=ignore_index)
    else:
        soft = row_loss.kind == "log"
        require(
            soft, "labels", "probabilities with row_loss='probability'", "classes (B,) of an integer dtype"
        )
        # A row of probabilities has no one label that could be ignored; torch refuses it too.
        legal = "a negative one, the default -100, or classes (B,)"
        require(ignore_index < 0, "ignore_index", f"{ignore_index} with probabilities as labels", legal)
    if isinstance(scale, Tensor):
        require(scale.dim() == 0, "scale", f"shape {tuple(scale.shape)}", "a number, or a 0-d tensor")
    elif not torch.compiler.is_compiling():  # a compiler may have made a symbol of it
        require_number("scale", scale)
    angles = score == "dot" and margin.pairwise is not None
    require(not angles, "score", "'dot' with a pairwise margin", "'cosine', since only cosines have angles")
    for name, vector in (("offset", offset), ("class_weight", class_weight)):
        if vector is not None:
            check_class_vector(name, vector, num_classes)
    if margin.pairwise is not None:
        check_class_vector("margin.pairwise.r", margin.pairwise.r, num_classes)


def _chosen(
    backend: Backend,
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    margin: Margin,
    class_weight: Tensor | None,
    budget: MemoryBudget | None,
) -> Callable[..., Tensor]:
    """Return who computes the loss of one process."""
    dense_only = what_only_dense_does(labels, margin, class_weight)
    if backend == "auto":
        backend = "dense" if dense_only or _few(embeddings, weight, budget) else fastest(embeddings)
    if backend == "dense":
        return dense_margin_cross_entropy
    require(dense_only is None, "backend", f"{backend!r} with {dense_only}", "'dense', or 'auto'")
    return partial(
        chunked_margin_cross_entropy, budget=budget, competitors=competitors_of(backend, embeddings)
    )


def _few(embeddings: Tensor, weight: Tensor, budget: MemoryBudget | None) -> bool:
    """Return whether the dense formula is the faster one."""
    scores = weight.shape[:-1].numel() * len(embeddings)
    return scores <= FEW_SCORES and weight.numel() <= FEW_WEIGHTS and budget is None


def what_only_dense_does(labels: Tensor, margin: Margin, class_weight: Tensor | None) -> str | None:
    """Return what is asked that the engine's backends cannot do or have no gradient for, or None."""
    if plain := only_plain_calls(labels):
        return plain
    guide = () if margin.pairwise is None else (margin.pairwise.r, margin.pairwise.c)
    asked = (("labels", (labels,)), ("class_weight", (class_weight,)), ("margin.pairwise", guide))
    for name, tensors in asked:
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            return f"a gradient for {name}"
    return None


def fastest(embeddings: Tensor) -> Backend:
    """Return the fastest backend where the embeddings are."""
    return "triton" if embeddings.device.type == "cuda" and _triton_runs(embeddings.device) else "chunked"


@lru_cache
def _triton_runs(device: torch.device) -> bool:
    """Try a tiny loss: Triton may be there and yet lack a compiler, or not know the device."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.eye(2, device=device, requires_grad=True)
            label = torch.tensor([0, 1], device=device)
            loss = margin_cross_entropy(x, torch.eye(3, 2, device=device), label, backend="triton")
            torch.autograd.grad(loss, [x])
    except Exception as error:  # whatever it is, there is another way
        warnings.warn(
            f"Triton does not run here, so losses are 'chunked': {error}", RuntimeWarning, stacklevel=2
        )
        return False
    return True


def competitors_of(backend: Backend, embeddings: Tensor) -> type[Competitors]:
    """Return who does the elementwise part."""
    if backend == "chunked":
        return Competitors
    from bisector.engine.triton import TritonCompetitors, why_not

    reason = why_not(embeddings.device)
    require(
        reason is None, "backend", f"'triton', but {reason}", "'chunked', which runs everywhere, or 'auto'"
    )
    return TritonCompetitors


def check_shapes(embeddings: Tensor, weight: Tensor, labels: Tensor) -> None:
    """Raise `ArgumentError` unless the three fit together."""
    for name, given in (("weight", weight), ("labels", labels)):
        require(isinstance(given, Tensor), name, type(given).__name__, "a tensor")
    require(weight.is_floating_point(), "weight", weight.dtype, "a floating dtype")
    traced = sizes_are_traced()
    if not traced:
        shape = f"shape {tuple(weight.shape)}"
        require(weight.dim() in {2, 3}, "weight", shape, "(C, D), or (C, K, D) with sub-centers")
    require_embeddings("embeddings", embeddings, weight.shape[-1])
    require_same_place("embeddings", embeddings, weight)
    if traced:
        return
    rows, classes = embeddings.shape[0], weight.shape[0]
    some = rows > 0 or is_sharded(weight)
    require(some, "embeddings", f"shape {tuple(embeddings.shape)}", "at least one row")
    shape = f"shape {tuple(labels.shape)}"
    fits = labels.shape == (rows,) or labels.shape == (rows, classes)  # noqa: PLR1714, a set would hash sizes
    require(fits, "labels", shape, f"({rows},) classes, or ({rows}, {classes}) probabilities")
    floating = labels.dim() == 1 or labels.is_floating_point()
    require(floating, "labels", f"{labels.dtype} of {shape}", "probabilities of a floating dtype")


def require_same_place(name: str, given: Tensor, weight: Tensor) -> None:
    """Raise `ArgumentError` unless both are on one device, and that is not the meta device alone."""
    hint = ""
    if weight.device.type == "meta" and given.device.type != "meta":
        hint = ", which has no numbers: see bisector.shard_classes, or Module.to_empty and reset_parameters"
    legal = f"the weights' device, {weight.device}{hint}"
    require(given.device == weight.device, name, f"a tensor on {given.device}", legal)


def check_class_vector(name: str, vector: Tensor, num_classes: int) -> None:
    """Raise `ArgumentError` unless the vector is (C,)."""
    if sizes_are_traced():
        return
    require(vector.shape == (num_classes,), name, f"shape {tuple(vector.shape)}", f"({num_classes},)")
