"""Post-hoc adjustment of detectors: the classes move, the decision object or background stays as it is."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from bisector.checks import require_of_each_class
from bisector.errors import ArgumentError, require, require_choice, require_number
from bisector.posthoc.adjustment import Adjustment, BaseAdjustment
from bisector.posthoc.dispatch import adjust
from bisector.posthoc.geometry import GeometryAdjustment

Activation: TypeAlias = Literal["softmax", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = ("softmax", "sigmoid")
Outputs = TypeVar("Outputs")

_LEAST = math.log(torch.finfo(torch.float64).tiny)  # of a class that has nothing of a box, for a geometry


def adjust_scores(
    scores: Tensor,  # (..., C), or (..., C + 1) with the background
    offsets: BaseAdjustment | Tensor,  # (C,)
    *,
    background: Literal[0, -1] | None = None,
    activation: Activation = "softmax",
    embeddings: Tensor | None = None,  # (N, D), of scores (N, C) or (N, C + 1)
) -> Tensor:
    r"""Return the scores of boxes with the classes' offsets, in the dtype that came in.

    **softmax**: one distribution a box. Among the classes it moves as those of a classifier would; what the box has
    of all of them together, its chance to be an object at all, is kept, and so is the background's:

    .. math:: p'_c = m\,\frac{p_c^{1/T} e^{b_c}}{\sum_k p_k^{1/T} e^{b_k}}, \qquad
              m = \sum_k p_k, \qquad p'_\mathrm{bg} = p_\mathrm{bg}

    Only the differences of the offsets matter. That is right if the detector tells objects from background as it
    should whatever the class, and the training prior spoils only the choice among classes. An adjustment that asks
    for embeddings, such as a `GeometryAdjustment`, shares m by the softmax of its logits of the C classes; a
    geometry that is the identity gives the very scores.

    **sigmoid**: a score for each class by itself, :math:`p'_c = \sigma(\mathrm{logit}(p_c) / T + b_c)`: the odds of
    the class times :math:`e^{b_c}`, which is a change of its prior. The level of the offsets matters:
    `offsets_from_counts` and `level_offsets` keep the expected number of boxes. Within a class the order of the
    boxes stays as it is, so an AP changes only by what cuts across classes: a limit of boxes an image, a
    threshold, one class a box.

    Args:
        scores: probabilities. A softmax whose background was dropped is one with ``background=None``: the sum
            of a row is kept, whatever it is.
        offsets: an `Adjustment`, or (C,) b, which stands for one with T = 1; of a softmax also an
            adjustment that asks for embeddings.
        background: which column is the background's: the first (torchvision), the last (DETR), or none.
        activation: how the scores were made.
        embeddings: of the boxes, for such an adjustment.

    Raises:
        ArgumentError: the shapes do not fit, the scores are no probabilities, or embeddings are missing.

    >>> scores = torch.tensor([[0.5, 0.4, 0.1]])
    >>> adjust_scores(scores, torch.tensor([0.0, 4.0]).log1p(), background=0)
    tensor([[0.5000, 0.2222, 0.2778]])
    """
    require(isinstance(scores, Tensor), "scores", type(scores).__name__, "a tensor")
    require(scores.is_floating_point(), "scores", scores.dtype, "a floating dtype")
    require_choice("activation", activation, ACTIVATIONS)
    _require_columns("scores", scores, offsets, background)
    precise = scores.to(torch.promote_types(scores.dtype, torch.float32))
    legal = bool(((precise >= 0) & (precise <= 1.001)).all())
    if activation == "softmax":
        legal = legal and bool((precise.sum(-1) <= 1.02).all())
    require(legal, "scores", "numbers that are none", f"probabilities of a {activation}")
    if activation == "sigmoid":
        b, temperature = parts_of(offsets)
        return (
            _with_classes(precise.clamp(max=1.0).logit(), background, lambda z: z / temperature + b.to(z))
            .sigmoid()
            .to(scores.dtype)
        )
    if _is_identity(offsets):
        return scores
    return _moved(precise.log(), offsets, background, embeddings).exp().to(scores.dtype)


def adjust_logits(
    logits: Tensor,  # (..., C), or (..., C + 1) with the background
    offsets: BaseAdjustment | Tensor,  # (C,)
    *,
    background: Literal[0, -1] | None = None,
    embeddings: Tensor | None = None,  # (N, D), of logits (N, C) or (N, C + 1)
) -> Tensor:
    r"""Return logits whose softmax is what `adjust_scores` makes of the softmax of these, in their dtype.

    The background's logit stays, and so does the log-sum-exp of the classes': no digit is lost to a probability
    near 0. Arguments are those of `adjust_scores`.

    Raises:
        ArgumentError: the shapes do not fit, or embeddings are missing.

    >>> logits = torch.tensor([[0.5, 0.4, 0.1]]).log()
    >>> adjust_logits(logits, torch.tensor([0.0, 4.0]).log1p(), background=0).softmax(1)
    tensor([[0.5000, 0.2222, 0.2778]])
    """
    _require_columns("logits", logits, offsets, background)
    if _is_identity(offsets):
        return logits
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return _moved(precise, offsets, background, embeddings).to(logits.dtype)


def adjust_detr(
    outputs: Outputs,
    offsets: Adjustment | Tensor,  # (C,)
    *,
    activation: Activation,
) -> Outputs:
    """Return the outputs of a DETR-like model with the classes' offsets in its logits; all else is shared.

    They go where the model's own go, such as to ``post_process_object_detection`` of its image processor.

    Args:
        outputs: an object or a mapping with ``logits`` (N, Q, C + 1), a softmax with "no object" last (DETR,
            YOLOS, Table Transformer), or (N, Q, C), sigmoids (RT-DETR, Deformable, Conditional and DAB DETR);
            or with ``pred_logits``, as in the repositories of the authors. The logits of text-prompted models
            (Grounding DINO) are of tokens, not of classes, and do not fit.
        offsets: an `Adjustment`, or (C,) b; C is the model's ``num_labels``, unused numbers included.
        activation: which of the two; the widths alone do not tell, since labels may be unused.

    Raises:
        ArgumentError: there are no logits, or they do not fit the offsets.

    See `adjust_scores` for what is done and what it assumes.

    >>> outputs = {"logits": torch.tensor([[[1.0, 2.0, 3.0]]])}
    >>> adjust_detr(outputs, torch.tensor([9.0, 8.0]), activation="softmax")["logits"].round(decimals=4)
    tensor([[[1.6201, 1.6201, 3.0000]]])
    """
    mapping = isinstance(outputs, Mapping)
    for name in ("logits", "pred_logits"):
        logits = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(logits, Tensor):
            break
    else:
        raise ArgumentError(
            f"outputs: got {type(outputs).__name__} without logits; expected (N, Q, C) logits"
        )
    b, temperature = parts_of(offsets)
    require_choice("activation", activation, ACTIVATIONS)
    width = len(b) + (activation == "softmax")
    fits = logits.dim() > 0 and logits.shape[-1] == width
    legal = f"(N, Q, {width}) of a {activation}"
    require(fits, "outputs", f"logits of shape {tuple(logits.shape)}", legal)
    if activation == "softmax":
        moved = adjust_logits(logits, offsets, background=-1)
    else:
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        moved = (precise / temperature + b.to(precise)).to(logits.dtype)
    twin: Any = copy.copy(outputs)
    if mapping:
        twin[name] = moved
    else:
        setattr(twin, name, moved)
    return twin  # type: ignore[no-any-return]


def offsets_from_counts(
    class_counts: Tensor | Sequence[float],  # (C,)
    tau: float = 1.0,
    class_names: Sequence[str] = (),
) -> Adjustment:
    r"""Return the offsets that take the training counts out again, for a detector.

    .. math:: b_c = -\tau \log n_c + \log \frac{\sum_k n_k}{\sum_k n_k^{1 - \tau}}

    These are those of ``adjust(method="prior")`` at the level where :math:`\sum_c n_c e^{b_c} = \sum_c n_c`: as
    many boxes as in training are expected, only of other classes. At tau = 1 it is
    :math:`b_c = -\log(n_c / \bar n)`. A softmax over the classes does not see the level; independent sigmoids do.

    Args:
        class_counts: training boxes of each class, without the background; a class without any counts as the
            rarest of the others.
        tau: strength, at least 0.
        class_names: to be kept with the adjustment.

    Raises:
        ArgumentError: the counts are no counts, or tau is negative.

    >>> offsets_from_counts([90, 9, 1]).offsets.exp()
    tensor([ 0.3704,  3.7037, 33.3333], dtype=torch.float64)
    """
    require_number("tau", tau, least=0)
    try:
        counts = torch.as_tensor(class_counts, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(f"class_counts: got {type(class_counts).__name__}; expected numbers") from None
    fits = counts.dim() == 1 and len(counts) > 0
    require(fits, "class_counts", f"shape {tuple(counts.shape)}", "(C,)")
    even = torch.full((1, len(counts)), 1 / len(counts), dtype=torch.float64, device="cpu")
    names = tuple(class_names)
    found = adjust(
        even, method="prior", kind="probabilities", tau=tau, class_counts=counts, class_names=names
    )
    counts = counts.where(counts > 0, counts[counts > 0].min())
    return replace(found, offsets=level_offsets(found.offsets, counts))


def level_offsets(
    offsets: Tensor,  # (C,)
    class_counts: Tensor,  # (C,)
) -> Tensor:
    r"""Shift offsets, all by one number, so that :math:`\sum_c n_c e^{b_c} = \sum_c n_c`; float64.

    For offsets that were found in another way (fitted, from amounts) and shall go on independent sigmoids: the
    expected number of boxes stays what it was.

    Raises:
        ArgumentError: the shapes differ, or a count is negative or none is above 0.

    >>> level_offsets(torch.tensor([0.0, 0.0]), torch.tensor([3, 1]))
    tensor([0., 0.], dtype=torch.float64)
    """
    b, counts = offsets.to("cpu", torch.float64), class_counts.to("cpu", torch.float64)
    same = b.dim() == 1 and b.shape == counts.shape
    require(same, "class_counts", f"shape {tuple(counts.shape)}", f"that of the offsets, {tuple(b.shape)}")
    require_of_each_class("class_counts", counts, (counts >= 0) & counts.isfinite(), "numbers of at least 0")
    require(bool((counts > 0).any()), "class_counts", "0 for every class", "at least one training box")
    return b + counts.sum().log() - (counts.log() + b).logsumexp(0)


def parts_of(offsets: BaseAdjustment | Tensor) -> tuple[Tensor, float]:
    """Return b and T.

    Raises:
        ArgumentError: they are none of one number a class.
    """
    if isinstance(offsets, BaseAdjustment) and not isinstance(offsets, Adjustment):
        legal = "class offsets: any other moves a softmax alone, by the embeddings of the boxes"
        raise ArgumentError(f"offsets: got a {type(offsets).__name__}; expected {legal}")
    found = offsets if isinstance(offsets, Adjustment) else Adjustment(offsets)
    return found.offsets, found.temperature


def _is_identity(adjustment: BaseAdjustment | Tensor) -> bool:
    """Whether no score changes; with another temperature no prediction would, but an AP may."""
    return isinstance(adjustment, GeometryAdjustment) and adjustment.is_identity and adjustment.a == 1


def _require_columns(name: str, given: Tensor, offsets: BaseAdjustment | Tensor, background: Any) -> None:
    """Raise `ArgumentError` unless there is a column for every class, and one for the background if it has one."""
    known = background is None or (isinstance(background, int) and background in {0, -1})
    require(known, "background", background, "0, -1 or None")
    offsets = offsets if isinstance(offsets, BaseAdjustment) else Adjustment(offsets)
    width = offsets.num_classes + (background is not None)
    fits = given.dim() > 0 and given.shape[-1] == width
    require(fits, name, f"shape {tuple(given.shape)}", f"(..., {width})")


def _moved(
    logits: Tensor,  # (..., C), or (..., C + 1)
    adjustment: BaseAdjustment | Tensor,  # (C,)
    background: int | None,
    embeddings: Tensor | None,
) -> Tensor:
    """Move the classes, and keep the logarithm of their summed exponentials."""
    one = adjustment if isinstance(adjustment, BaseAdjustment) else Adjustment(adjustment)

    def move(given: Tensor) -> Tensor:
        classes = known = given
        if one.needs_embeddings:
            # Evidence of hundreds would cost digits in float32.
            classes = given.cpu().double()
            known = classes.where(classes > -torch.inf, _LEAST)
        # Logits and logarithms of probabilities differ by a number of each row, which the shift takes out.
        moved = one.adjusted_logits(known, None if embeddings is None else embeddings.to(known.device))
        before, after = (z.logsumexp(-1, keepdim=True) for z in (classes, moved))
        # A box that has nothing of any class keeps it: there is no number to shift.
        return (moved + torch.where(after > -torch.inf, before - after, 0)).to(given)

    return _with_classes(logits, background, move)


def _with_classes(
    logits: Tensor,  # (..., C), or (..., C + 1)
    background: int | None,
    move: Callable[[Tensor], Tensor],  # (..., C) -> (..., C)
) -> Tensor:
    """Change the columns of the classes and leave the background's."""
    if background is None:
        return move(logits)
    first, count = int(background == 0), logits.shape[-1] - 1
    parts = [move(logits.narrow(-1, first, count)), logits.narrow(-1, 0 if first else count, 1)]
    return torch.cat(parts[::-1] if first else parts, dim=-1)
