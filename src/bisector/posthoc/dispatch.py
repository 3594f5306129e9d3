"""adjust: find the offsets by the method that is asked for."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.checks import require_of_each_class
from bisector.errors import ArgumentError, require, require_choice, require_number
from bisector.guides.amount import check_class_values, impute, normalized_amount
from bisector.guides.pairwise import pairwise_guide
from bisector.heads import PRESETS
from bisector.posthoc.adjustment import Adjustment, Kind, logits_of
from bisector.posthoc.fit import fit_offsets, require_fit_rows, short

Method: TypeAlias = Literal["prior", "amount", "fitted"]
METHODS: tuple[Method, ...] = ("prior", "amount", "fitted")


def adjust(
    scores: Tensor,  # (N, C)
    labels: Tensor | Sequence[int] | None = None,  # (N,)
    *,
    method: Method = "prior",
    kind: Kind = "logits",
    class_counts: Tensor | Sequence[float] | None = None,  # (C,)
    amounts: Tensor | Sequence[float] | None = None,  # (C,) bits
    tau: float | Literal["fit"] = 1.0,
    strength: float | Literal["fit"] = "fit",
    penalty: float | Literal["cross-validate"] = "cross-validate",
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> Adjustment:
    r"""Find offsets :math:`b_c` that move the boundaries of a trained model, :math:`z / T + b`.

    - ``"prior"``: :math:`b_c = -\tau \log \pi_c`, the training counts taken out again (Menon et al. 2021). For a
      model trained with plain cross-entropy on imbalanced classes; it needs no label. Not for one whose training
      took the prior into account already (logit adjustment, class weights, resampling), which would be done
      twice. tau = 1 is right for calibrated logits; ``tau="fit"`` finds tau and a temperature on labelled scores,
      which the logits of a cosine head, whose scale is chosen, or of an overconfident network need.
    - ``"amount"``: :math:`b_c = \mathrm{strength} \cdot (g_c - \bar g)`, with g the guide that IGAM's recommended
      preset makes of the information amounts, in radians: classes that hold more get more room. IGAM's margin
      between i and j is :math:`g_i - g_j` where that is positive, so the offsets move each pair's boundary by
      just the margin that a head would press with: near a right angle a radian is one unit of cosine, and a
      cosine head of scale s has s logits of it: for one, ``strength=s`` is the size of the head's own margins.
      The logits of other models have no such scale: ``strength="fit"`` finds the strength and a temperature on
      labelled scores. A fitted strength near 0 says that amounts tell nothing about which way the boundaries
      should move, and one below 0 that they should move the other way.
    - ``"fitted"``: an offset for every class and a temperature, those of least balanced cross-entropy on
      labelled scores, drawn towards 0 by a penalty that cross-validation chooses. It knows of no cause, so it
      mends whatever makes a class lose; the fewer labelled instances a class has, the less it can learn, and
      the nearer to 0 the penalty has to keep it.

    All of them can only trade one class against another: they raise balanced accuracy, the rare classes and
    the worst class mostly at some cost in plain accuracy on test data as imbalanced as the training's. Where
    counts are equal and classes equally hard there is nothing to gain, and a fit adds noise.

    **What is fitted must be fitted on rows that are not reported**: a validation split, or
    `cross_validated_predictions`.

    Args:
        scores: (N, C) of the validation split, of a model without margin; for what is not fitted only C is read.
        labels: (N,) their classes, for what is fitted.
        method: "prior", "amount" or "fitted".
        kind: what the scores are: "logits" or "probabilities".
        class_counts: (C,) training instances, for "prior"; a class without any counts as the rarest of the others.
        amounts: (C,) bits, for "amount"; NaN, a class that could not be measured, counts as the mean of the others.
        tau: for "prior": a number of at least 0, or "fit".
        strength: for "amount": a number, in logits per radian, or "fit".
        penalty: for "fitted": lambda of at least 0, or "cross-validate"; see `bisector.posthoc.fit`.
        seed: of the folds of that cross-validation.
        class_names: of the columns, to be kept with the adjustment.

    Raises:
        ArgumentError: an argument is missing or not as described.

    Source: Menon et al., ICLR 2021 (arXiv 2007.07314) for "prior"; the guide is that of Ma, Dai, Chen, ICLR 2025.

    >>> adjustment = adjust(torch.zeros(1, 3), method="prior", class_counts=[100, 10, 1])
    >>> adjustment.offsets
    tensor([0.1044, 2.4069, 4.7095], dtype=torch.float64)
    """
    require_choice("method", method, METHODS)
    logits = logits_of("scores", scores, kind)
    if method == "fitted":
        found = _fitted(logits, labels, penalty, seed)
    elif method == "prior":
        direction = _surprise(class_counts, logits.shape[1])
        told, fitted = "minus tau = {} times the log of the training prior", "tau and the temperature fitted"
        found = _along(direction, "tau", tau, 0, told, fitted, logits, labels)
    else:
        direction = _guide(amounts, logits.shape[1])
        told = "{} logits a radian of the guide that the information amounts make"
        found = _along(
            direction, "strength", strength, -math.inf, told, "fitted with the temperature", logits, labels
        )
    offsets, temperature, description, settings = found
    return Adjustment(offsets, temperature, kind, method, description, settings, tuple(class_names))


_Labels: TypeAlias = Tensor | Sequence[int] | None
_Found: TypeAlias = tuple[Tensor, float, str, dict[str, float]]


def _surprise(class_counts: Tensor | Sequence[float] | None, classes: int) -> Tensor:  # (C,)
    """Minus the logarithm of the training prior, in nats."""
    require(class_counts is not None, "class_counts", "None", "the training instances of each class")
    counts = _of_each_class("class_counts", class_counts, classes)
    require_of_each_class("class_counts", counts, ~counts.isnan(), "numbers of at least 0")
    require(bool((counts > 0).any()), "class_counts", "0 for every class", "at least one training instance")
    counts = counts.where(counts > 0, counts[counts > 0].min())
    return -(counts / counts.sum()).log()


def _guide(amounts: Tensor | Sequence[float] | None, classes: int) -> Tensor:  # (C,)
    """The guide that the amounts make, in radians, of mean 0."""
    require(amounts is not None, "amounts", "None", "the information amount of each class, in bits")
    bits = _of_each_class("amounts", amounts, classes)
    bits = impute(bits, missing=bits.isnan())
    preset = PRESETS["recommended"]
    guide = pairwise_guide(
        normalized_amount(bits, preset.normalize), gain=preset.gain, max_margin=preset.max_margin
    ).r
    return guide - guide.mean()


def _along(
    direction: Tensor,  # (C,)
    name: str,
    coefficient: float | Literal["fit"],
    least: float,
    told: str,
    fitted: str,
    logits: Tensor,
    labels: _Labels,
) -> _Found:
    """Offsets that are a number times the direction: one that is given, or that is fitted with a temperature."""
    if coefficient != "fit":
        value = require_number(name, coefficient, least=least)
        return value * direction, 1.0, told.format(f"{value:g}"), {name: value}
    rows = require_fit_rows(logits, labels, "tau" if name == "tau" else f"the {name}")
    fit = fit_offsets(logits, rows, directions=direction[:, None])
    value = float(fit.coefficients[0])  # on logits z / T, as the number is used with T = 1
    description = f"{told.format(f'{value:.3g}')}, {fitted} on {len(rows)} labelled rows"
    return fit.offsets, fit.temperature, description, {name: value}


def _fitted(logits: Tensor, labels: _Labels, penalty: float | Literal["cross-validate"], seed: int) -> _Found:
    rows = require_fit_rows(logits, labels, "the offsets")
    if isinstance(penalty, str):
        require_choice("penalty", penalty, ["cross-validate"])
        fit = fit_offsets(logits, rows, seed=seed)
    else:
        fit = fit_offsets(logits, rows, penalty=require_number("penalty", penalty, least=0))
    told = (
        f"an offset for each class and a temperature of least balanced cross-entropy on {len(rows)} labelled rows, "
        f"penalty {fit.penalty:g}"
    )
    if fit.absent:
        told += f"; {fit.absent} classes without a row keep the mean offset, 0"
    return fit.offsets, fit.temperature, told, {"penalty": fit.penalty}


def _of_each_class(name: str, values: Tensor | Sequence[float] | None, classes: int) -> Tensor:
    try:
        vector = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ArgumentError(f"{name}: got {short(values)}; expected {classes} numbers ({error})") from None
    numbers = check_class_values(name, vector)
    require(len(numbers) == classes, name, f"{len(numbers)} classes", f"the {classes} of the scores")
    return numbers
