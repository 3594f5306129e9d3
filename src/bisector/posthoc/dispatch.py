"""adjust: find the offsets by the method that is asked for."""

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
    if method == "prior":
        found = _prior(logits, labels, class_counts, tau)
    elif method == "amount":
        found = _amount(logits, labels, amounts, strength)
    else:
        found = _fitted(logits, labels, penalty, seed)
    offsets, temperature, description, settings = found
    return Adjustment(offsets, temperature, kind, method, description, settings, tuple(class_names))


_Found: TypeAlias = tuple[Tensor, float, str, dict[str, float]]


def _prior(
    logits: Tensor,
    labels: Tensor | Sequence[int] | None,
    class_counts: Tensor | Sequence[float] | None,
    tau: float | Literal["fit"],
) -> _Found:
    require(class_counts is not None, "class_counts", "None", "the training instances of each class")
    counts = _of_each_class("class_counts", class_counts, logits.shape[1])
    require_of_each_class("class_counts", counts, ~counts.isnan(), "numbers of at least 0")
    require(bool((counts > 0).any()), "class_counts", "0 for every class", "at least one training instance")
    counts = counts.where(counts > 0, counts[counts > 0].min())
    surprise = -(counts / counts.sum()).log()
    if tau != "fit":
        tau = require_number("tau", tau, least=0)
        return tau * surprise, 1.0, f"minus tau = {tau:g} times the log of the training prior", {"tau": tau}
    rows = require_fit_rows(logits, labels, "tau")
    fit = fit_offsets(logits, rows, directions=surprise[:, None])
    # On logits z / T, as tau is used with T = 1.
    fitted = float(fit.coefficients[0])
    told = f"minus tau = {fitted:.3g} times the log of the training prior, tau and the temperature fitted on "
    return fit.offsets, fit.temperature, told + _rows(rows), {"tau": fitted}


def _amount(
    logits: Tensor,
    labels: Tensor | Sequence[int] | None,
    amounts: Tensor | Sequence[float] | None,
    strength: float | Literal["fit"],
) -> _Found:
    require(amounts is not None, "amounts", "None", "the information amount of each class, in bits")
    bits = _of_each_class("amounts", amounts, logits.shape[1])
    bits = impute(bits, missing=bits.isnan())
    preset = PRESETS["recommended"]
    guide = pairwise_guide(
        normalized_amount(bits, preset.normalize), gain=preset.gain, max_margin=preset.max_margin
    ).r
    guide = guide - guide.mean()
    if strength != "fit":
        strength = require_number("strength", strength)
        told = f"{strength:g} logits a radian of the guide that the information amounts make"
        return strength * guide, 1.0, told, {"strength": strength}
    rows = require_fit_rows(logits, labels, "the strength")
    fit = fit_offsets(logits, rows, directions=guide[:, None])
    fitted = float(fit.coefficients[0])
    told = f"{fitted:.3g} logits a radian of the guide that the information amounts make, fitted with the "
    return fit.offsets, fit.temperature, told + f"temperature on {_rows(rows)}", {"strength": fitted}


def _fitted(
    logits: Tensor,
    labels: Tensor | Sequence[int] | None,
    penalty: float | Literal["cross-validate"],
    seed: int,
) -> _Found:
    rows = require_fit_rows(logits, labels, "the offsets")
    if isinstance(penalty, str):
        require_choice("penalty", penalty, ["cross-validate"])
        fit = fit_offsets(logits, rows, seed=seed)
    else:
        fit = fit_offsets(logits, rows, penalty=require_number("penalty", penalty, least=0))
    told = (
        f"an offset for each class and a temperature of least balanced cross-entropy on {_rows(rows)}, "
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


def _rows(labels: Tensor) -> str:
    return f"{len(labels)} labelled rows"
