"""Post-hoc adjustment of detectors: class offsets that leave the decision object or background as it is."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from bisector.checks import require_of_each_class
from bisector.errors import ArgumentError, require, require_choice, require_number
from bisector.posthoc.adjustment import Adjustment
from bisector.posthoc.dispatch import adjust

Activation: TypeAlias = Literal["softmax", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = ("softmax", "sigmoid")
Outputs = TypeVar("Outputs")


def adjust_scores(
    scores: Tensor,  # (..., C), or (..., C + 1) with the background
    offsets: Adjustment | Tensor,  # (C,)
    *,
    background: Literal[0, -1] | None = None,
    activation: Activation = "softmax",
) -> Tensor:
    r"""Return the scores of boxes with the classes' offsets, in the dtype that came in.

    **softmax**: one distribution a box. Among the classes it moves as those of a classifier would; what the box has
    of all of them together, its chance to be an object at all, is kept, and so is the background's:

    .. math:: p'_c = m\,\frac{p_c^{1/T} e^{b_c}}{\sum_k p_k^{1/T} e^{b_k}}, \qquad
              m = \sum_k p_k, \qquad p'_\mathrm{bg} = p_\mathrm{bg}

    Only the differences of the offsets matter. That is right if the detector tells objects from background as it
    should whatever the class, and the training prior spoils only the choice among classes.

    **sigmoid**: a score for each class by itself, :math:`p'_c = \sigma(\mathrm{logit}(p_c) / T + b_c)`: the odds of
    the class times :math:`e^{b_c}`, which is a change of its prior. The level of the offsets matters:
    `offsets_from_counts` and `level_offsets` keep the expected number of boxes. Within a class the order of the
    boxes stays as it is, so an AP changes only by what cuts across classes: a limit of boxes an image, a
    threshold, one class a box.

    Args:
        scores: probabilities. A softmax whose background was dropped is one with ``background=None``: the sum
            of a row is kept, whatever it is.
        offsets: an `Adjustment`, or (C,) b, which stands for one with T = 1.
        background: which column is the background's: the first (torchvision), the last (DETR), or none.
        activation: how the scores were made.

    Raises:
        ArgumentError: the shapes do not fit, or the scores are no probabilities.

    >>> scores = torch.tensor([[0.5, 0.4, 0.1]])
    >>> adjust_scores(scores, torch.tensor([0.0, 4.0]).log1p(), background=0)
    tensor([[0.5000, 0.2222, 0.2778]])
    """
    require(isinstance(scores, Tensor), "scores", type(scores).__name__, "a tensor")
    require(scores.is_floating_point(), "scores", scores.dtype, "a floating dtype")
    b, temperature = parts_of(offsets)
    require_choice("activation", activation, ACTIVATIONS)
    known = background is None or (isinstance(background, int) and background in {0, -1})
    require(known, "background", background, "0, -1 or None")
    width = len(b) + (background is not None)
    fits = scores.dim() > 0 and scores.shape[-1] == width
    require(fits, "scores", f"shape {tuple(scores.shape)}", f"(..., {width})")
    precise = scores.to(torch.promote_types(scores.dtype, torch.float32))
    legal = bool(((precise >= 0) & (precise <= 1.001)).all())
    if activation == "softmax":
        legal = legal and bool((precise.sum(-1) <= 1.02).all())
    require(legal, "scores", "numbers that are none", f"probabilities of a {activation}")
    if activation == "sigmoid":
        logits = precise.clamp(max=1.0).logit()
        return _moved(logits, b, temperature, background, activation).sigmoid().to(scores.dtype)
    return _moved(precise.log(), b, temperature, background, activation).exp().to(scores.dtype)


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
    background = -1 if activation == "softmax" else None
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    moved = _moved(precise, b, temperature, background, activation).to(logits.dtype)
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


def parts_of(offsets: Adjustment | Tensor) -> tuple[Tensor, float]:
    """Return b and T."""
    if not isinstance(offsets, Adjustment):
        offsets = Adjustment(offsets)
    return offsets.offsets, offsets.temperature


def _moved(
    logits: Tensor,  # (..., C), or (..., C + 1)
    offsets: Tensor,  # (C,)
    temperature: float,
    background: int | None,
    activation: Activation,
) -> Tensor:
    """Add the offsets; under a softmax, keep the logarithm of the summed exponentials of the classes."""
    first = 1 if background == 0 else 0
    classes = logits.narrow(-1, first, len(offsets))
    moved = classes / temperature + offsets.to(logits)
    if activation == "softmax":
        before, after = (z.logsumexp(-1, keepdim=True) for z in (classes, moved))
        # A box that has nothing of any class keeps it: there is no number to shift.
        moved = moved + torch.where(after > -torch.inf, before - after, 0)
    if background is None:
        return moved
    parts = [moved, logits.narrow(-1, 0 if first else len(offsets), 1)]
    return torch.cat(parts[::-1] if first else parts, dim=-1)
