"""The margin loss as one function: checks its arguments, then chooses who computes it."""

import importlib.util
import warnings
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from bisector.checks import require_classes, require_embeddings, sizes_are_traced
from bisector.engine.budget import MemoryBudget
from bisector.engine.chunked import chunked_loss
from bisector.engine.competitors import Competitors
from bisector.engine.sharded import is_sharded, sharded_loss
from bisector.errors import require, require_choice, require_number
from bisector.functional.margins import Margin
from bisector.functional.reference import LossSpec, dense_loss
from bisector.functional.row_losses import REDUCTIONS, Reduction, RowLoss
from bisector.functional.scores import SCORES, Score

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Backend: TypeAlias = Literal["auto", "dense", "chunked", "triton"]
BACKENDS: tuple[Backend, ...] = ("auto", "dense", "chunked", "triton")

# Up to so many scores and weights the dense formula is the faster one, and its matrices are small.
FEW_SCORES = 1 << 17
FEW_WEIGHTS = 1 << 20


def eager(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return the function so that `torch.compile` breaks its graph there instead of tracing it.

    What `torch.compiler.disable` does; but as a decorator that one loads the compiler at once, which takes longer
    than all of bisector and brings Triton along.
    """

    @wraps(function)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        if torch.compiler.is_compiling():
            left_alone: Any = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            found: Result = left_alone(*arguments, **options)
            return found
        return function(*arguments, **options)

    return call


_chunked_loss, _sharded_loss = eager(chunked_loss), eager(sharded_loss)


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
    spec = LossSpec(
        score=score,
        margin=Margin() if margin is None else margin,
        row_loss=RowLoss() if row_loss is None else row_loss,
        scale=scale,
        offset=offset,
        class_weight=class_weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )
    return compute(embeddings, weight, labels, spec, backend, budget)


def compute(
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    spec: LossSpec,
    backend: Backend,
    budget: MemoryBudget | None,
) -> Tensor:
    """Return the loss that `margin_cross_entropy` documents."""
    chosen = partial(choose, embeddings, weight, labels, spec, backend, budget)
    if is_sharded(
        weight
    ):  # what one process is told is wrong must be told to all, so the checks are made there
        return _sharded_loss(embeddings, weight, labels, spec, budget or MemoryBudget(), chosen)
    competitors = chosen()
    labels = labels if labels.dim() == 2 else labels.long()
    if competitors is None:
        return dense_loss(embeddings, weight, labels, spec)
    return _chunked_loss(embeddings, weight, labels, spec, budget or MemoryBudget(), competitors)


def choose(
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    spec: LossSpec,
    backend: Backend,
    budget: MemoryBudget | None,
) -> type[Competitors] | None:
    """Check all arguments of a loss and return who does its elementwise part; None for the dense formula.

    Raises:
        ArgumentError: one is not legal.
    """
    legal = budget is None or isinstance(budget, MemoryBudget)
    require(legal, "budget", repr(budget), "a bisector.MemoryBudget, or None")
    _check(embeddings, weight, labels, spec, backend)
    dense_only = _what_only_dense_does(labels, spec)
    if is_sharded(weight):
        require(labels.dim() == 1, "labels", "probabilities", "classes (B,), where the classes are sharded")
        refused = "" if backend == "dense" else dense_only
        got = f"{backend!r} with sharded classes{refused and f' and {refused}'}"
        require(refused is None, "backend", got, "'auto', 'chunked' or 'triton', and no such gradient")
    elif backend == "dense" or (backend == "auto" and (dense_only or _few(embeddings, weight, budget))):
        return None
    require(dense_only is None, "backend", f"{backend!r} with {dense_only}", "'dense', or 'auto'")
    if backend == "auto":
        backend = _fastest(embeddings.device)
    if backend == "chunked":
        return Competitors
    from bisector.engine.triton import TritonCompetitors, why_not

    reason = why_not(embeddings.device)
    legal_one = "'chunked', which runs everywhere, or 'auto'"
    require(reason is None, "backend", f"'triton', but {reason}", legal_one)
    return TritonCompetitors


def _check(embeddings: Tensor, weight: Tensor, labels: Tensor, spec: LossSpec, backend: Backend) -> None:
    """Raise `ArgumentError` at the first argument that is not legal."""
    require(isinstance(spec.margin, Margin), "margin", type(spec.margin).__name__, "a bisector.Margin")
    known = isinstance(spec.row_loss, RowLoss)
    require(known, "row_loss", type(spec.row_loss).__name__, "a bisector.RowLoss")
    require_choice("backend", backend, BACKENDS)
    require_choice("score", spec.score, SCORES)
    require_choice("reduction", spec.reduction, REDUCTIONS)
    check_shapes(embeddings, weight, labels)
    ignored, scale, num_classes = spec.ignore_index, spec.scale, weight.shape[0]
    if labels.dim() == 1:
        require_classes("labels", labels, num_classes, ignore_index=ignored)
    else:
        got = "probabilities with row_loss='probability'"
        require(spec.row_loss.kind == "log", "labels", got, "classes (B,) of an integer dtype")
        # A row of probabilities has no one label that could be ignored; torch refuses it too.
        legal = "a negative one, the default -100, or classes (B,)"
        require(ignored < 0, "ignore_index", f"{ignored} with probabilities as labels", legal)
    if isinstance(scale, Tensor):
        require(scale.dim() == 0, "scale", f"shape {tuple(scale.shape)}", "a number, or a 0-d tensor")
    elif not torch.compiler.is_compiling():  # a compiler may have made a symbol of it
        require_number("scale", scale)
    angles = spec.score == "dot" and spec.margin.pairwise is not None
    require(not angles, "score", "'dot' with a pairwise margin", "'cosine', since only cosines have angles")
    check_class_vectors(spec, num_classes)


def _few(embeddings: Tensor, weight: Tensor, budget: MemoryBudget | None) -> bool:
    """Return whether the dense formula is the faster one."""
    scores = weight.shape[:-1].numel() * len(embeddings)
    return scores <= FEW_SCORES and weight.numel() <= FEW_WEIGHTS and budget is None


def _what_only_dense_does(labels: Tensor, spec: LossSpec) -> str | None:
    """Return what is asked that the engine's backends cannot do or have no gradient for, or None."""
    if plain := only_plain_calls(labels):
        return plain
    pairwise = spec.margin.pairwise
    guide = () if pairwise is None else (pairwise.r, pairwise.c)
    asked = (("labels", (labels,)), ("class_weight", (spec.class_weight,)), ("margin.pairwise", guide))
    for name, tensors in asked:
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            return f"a gradient for {name}"
    return None


def only_plain_calls(tensor: Tensor) -> str | None:
    """Return what takes the plain formula alone, no walk in place and no draw of classes; None if nothing does.

    >>> only_plain_calls(torch.zeros(1, device="meta"))
    'meta tensors'
    """
    if torch.compiler.is_compiling():
        return None  # see `eager`
    if torch._C._are_functorch_transforms_active():
        return "torch.func"
    if torch._C._is_tracing():
        return "torch.jit.trace"
    if tensor.is_meta:
        return "meta tensors"
    return "fake tensors" if isinstance(tensor, FakeTensor) else None


def _fastest(device: torch.device) -> Backend:
    """Return the fastest backend on a device."""
    return "triton" if device.type == "cuda" and _triton_runs(device) else "chunked"


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


def check_class_vectors(spec: LossSpec, num_classes: int) -> None:
    """Raise `ArgumentError` unless all vectors with a number for each class are (C,)."""
    vectors = {"offset": spec.offset, "class_weight": spec.class_weight}
    if spec.margin.pairwise is not None:
        vectors["margin.pairwise.r"] = spec.margin.pairwise.r
    if sizes_are_traced():
        return
    for name, vector in vectors.items():
        if vector is not None:
            fits = vector.shape == (num_classes,)
            require(fits, name, f"shape {tuple(vector.shape)}", f"({num_classes},)")
