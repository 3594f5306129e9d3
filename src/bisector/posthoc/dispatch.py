"""adjust: find what is to be done to scores by the method that is asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, overload

from torch import Tensor

from bisector.checks import require_of_each_class
from bisector.errors import ArgumentError, require, require_choice, require_number
from bisector.guides.amount import impute, normalized_amount
from bisector.guides.pairwise import pairwise_guide
from bisector.heads import PRESETS
from bisector.information.geometry import ClassGeometry
from bisector.posthoc.adjustment import Adjustment, BaseAdjustment, Kind, logits_of
from bisector.posthoc.choice import choose
from bisector.posthoc.fit import class_values, fit_offsets, require_fit_rows
from bisector.posthoc.geometry import GeometryAdjustment
from bisector.posthoc.geometry_fit import Moments, embedding_scale, fit_geometry
from bisector.posthoc.linear import (
    MOST_CELLS,
    LinearAdjustment,
    linear_discriminant,
    nearest_mean,
    refit,
    tau_norm,
)

OffsetMethod: TypeAlias = Literal["prior", "amount", "fitted"]
LayerMethod: TypeAlias = Literal["nearest-mean", "lda", "tau-norm", "refit"]
Method: TypeAlias = OffsetMethod | Literal["geometry", "auto"] | LayerMethod
METHODS: tuple[Method, ...] = ("prior", "amount", "fitted", "geometry", "auto")
CONTROLS: tuple[LayerMethod, ...] = ("nearest-mean", "lda", "tau-norm", "refit")
"""Methods that put another last layer in the place of the model's: to compare with."""


class Options(TypedDict, total=False):
    """What `adjust` is given by name, beside the method."""

    kind: Kind
    class_counts: Tensor | Sequence[float] | None
    amounts: Tensor | Sequence[float] | None
    embeddings: Tensor | None
    train: tuple[Tensor, Tensor] | None
    geometry: ClassGeometry | None
    moments: Moments
    kappa: float | Literal["auto"] | None
    scale: str
    layer: bool | Literal["auto"]
    tau: float | Literal["fit"] | None
    strength: float | Literal["fit"]
    penalty: float | Literal["cross-validate"]
    k: int | None
    seed: int
    class_names: Sequence[str]


_Scores: TypeAlias = Tensor
_Labels: TypeAlias = Tensor | Sequence[int] | None


@overload
def adjust(
    scores: _Scores, labels: _Labels = None, *, method: OffsetMethod = "prior", **options: Unpack[Options]
) -> Adjustment: ...


@overload
def adjust(
    scores: _Scores, labels: _Labels = None, *, method: Literal["geometry"], **options: Unpack[Options]
) -> GeometryAdjustment: ...


@overload
def adjust(
    scores: _Scores, labels: _Labels = None, *, method: LayerMethod, **options: Unpack[Options]
) -> LinearAdjustment: ...


@overload
def adjust(
    scores: _Scores, labels: _Labels = None, *, method: Method, **options: Unpack[Options]
) -> BaseAdjustment: ...


def adjust(
    scores: Tensor,  # (N, C)
    labels: Tensor | Sequence[int] | None = None,  # (N,)
    *,
    method: Method = "prior",
    kind: Kind = "logits",
    class_counts: Tensor | Sequence[float] | None = None,  # (C,)
    amounts: Tensor | Sequence[float] | None = None,  # (C,) bits
    embeddings: Tensor | None = None,  # (N, D)
    train: tuple[Tensor, Tensor] | None = None,  # (M, D), (M,)
    geometry: ClassGeometry | None = None,
    moments: Moments = "both",
    kappa: float | Literal["auto"] | None = "auto",
    scale: str = "auto",
    layer: bool | Literal["auto"] = "auto",
    tau: float | Literal["fit"] | None = None,
    strength: float | Literal["fit"] = "fit",
    penalty: float | Literal["cross-validate"] = "cross-validate",
    k: int | None = 32,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> BaseAdjustment:
    r"""Find what moves the boundaries of a trained model: offsets :math:`z / T + b`, or its classes' geometry.

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
    - ``"geometry"``: the model's logits pooled with how well a row's embedding fits each class, and with those of a
      last layer trained again on the rows given here where that helps too, by three to five numbers that are
      fitted on labelled scores and embeddings; see `fit_geometry`. The only one of these that can have boundaries
      which no linear head has.
    - ``"auto"``: "geometry" where there are embeddings and it gains clearly, for it holds the others: ln n is the
      prior, the bias of the layer an offset a class. Else of "prior" with tau fitted (where the counts are known)
      and "fitted" the one with the lowest balanced cross-entropy. All are cross-validated on the same folds, and
      none is taken unless it is below that of a temperature alone by more than one standard error. The result has
      the method of the one that is chosen, or "none"; its description says what each gained.
    - Controls, to compare with, which put another linear layer over the embeddings in the place of the model's:
      ``"nearest-mean"``, ``"lda"`` (linear discriminant analysis), ``"tau-norm"`` (class vectors divided by a
      power of their length) and ``"refit"`` (the last layer trained again, every class weighing the same; cRT).

    Offsets can only trade one class against another: they raise balanced accuracy, the rare classes and
    the worst class mostly at some cost in plain accuracy on test data as imbalanced as the training's. Where
    counts are equal and classes equally hard there is nothing to gain, and a fit adds noise.

    **What is fitted must be fitted on rows that are not reported**: a validation split, or
    `cross_validated_predictions`.

    Args:
        scores: (N, C) of the validation split, of a model without margin; for what is not fitted only C is read.
        labels: (N,) their classes, for what is fitted.
        method: one of the above.
        kind: what the scores are: "logits" or "probabilities".
        class_counts: (C,) training instances, for "prior"; a class without any counts as the rarest of the others.
        amounts: (C,) bits, for "amount"; NaN, a class that could not be measured, counts as the mean of the others.
        embeddings: (N, D) of the same rows, for "geometry" and the controls.
        train: embeddings (M, D) and labels (M,) of the training rows, for "geometry", where no geometry is
            given, and the controls; without them the rows given here have to do.
        geometry: of the training rows.
        moments: for "geometry": whose means and covariances, "train", "held-out" (the rows given here), "both" or
            "auto"; for "refit": which rows the layer is trained on ("auto" is "both").
        kappa: for "geometry": see `fit_geometry`.
        scale: of the embeddings, "raw", "unit" or "auto"; see `embedding_scale`.
        layer: for "geometry": whether the last layer is trained again too; see `fit_geometry`.
        tau: for "prior" (1 if None) and "tau-norm" ("fit" if None): a number of at least 0, or "fit".
        strength: for "amount": a number, in logits per radian, or "fit".
        penalty: for "fitted": lambda of at least 0, or "cross-validate"; see `bisector.posthoc.fit`. For
            "geometry" alone: that of the layer.
        k: for "geometry": of each row the k classes of the highest logits are looked at; None for all.
        seed: of the folds of that cross-validation.
        class_names: of the columns, to be kept with the adjustment.

    Raises:
        ArgumentError: an argument is missing or not as described.

    Source: Menon et al., ICLR 2021 (arXiv 2007.07314) for "prior"; the guide is that of Ma, Dai, Chen, ICLR 2025.

    >>> import torch
    >>> adjustment = adjust(torch.zeros(1, 3), method="prior", class_counts=[100, 10, 1])
    >>> adjustment.offsets
    tensor([0.1044, 2.4069, 4.7095], dtype=torch.float64)
    """
    require_choice("method", method, (*METHODS, *CONTROLS))
    logits = logits_of("scores", scores, kind)
    names = tuple(class_names)
    pair = train is None or (isinstance(train, (tuple, list)) and len(train) == 2)
    require(pair, "train", type(train).__name__, "embeddings (M, D) and labels (M,), a pair")
    if method == "geometry":
        if geometry is None and train is not None:
            geometry = _geometry_of(train, logits, embeddings, scale)
        return fit_geometry(
            scores,
            labels,
            _required(embeddings, method),
            geometry,
            moments=moments,
            kappa=kappa,
            scale=scale,
            kind=kind,
            class_counts=class_counts,
            layer=layer,
            penalty=penalty,
            k=k,
            seed=seed,
            class_names=class_names,
        )
    if method == "auto":
        options: dict[str, Any] = {"class_counts": class_counts, "train": train, "geometry": geometry}
        options |= {
            "moments": moments,
            "kappa": kappa,
            "scale": scale,
            "layer": layer,
            "penalty": penalty,
            "k": k,
        }
        best = _best(logits, labels, embeddings, options, seed)
        return replace(best, kind=kind, class_names=names)  # type: ignore[type-var]
    if method in CONTROLS:
        given: Options = {"embeddings": embeddings, "train": train, "geometry": geometry, "moments": moments}
        given |= {"scale": scale, "tau": tau, "kind": kind, "seed": seed}
        return replace(_layer(method, logits, labels, given), kind=kind, class_names=names)
    found: _Found
    if method == "fitted":
        found = _fitted(logits, labels, penalty, seed)
    elif method == "prior":
        direction = _surprise(class_counts, logits.shape[1])
        told, fitted = "minus tau = {} times the log of the training prior", "tau and the temperature fitted"
        found = _along(direction, "tau", 1.0 if tau is None else tau, 0, told, fitted, logits, labels)
    else:
        direction = _guide(amounts, logits.shape[1])
        told = "{} logits a radian of the guide that the information amounts make"
        found = _along(
            direction, "strength", strength, -math.inf, told, "fitted with the temperature", logits, labels
        )
    offsets, temperature, description, settings = found
    return Adjustment(offsets, temperature, kind, method, description, settings, names)


def _required(embeddings: Tensor | None, method: str) -> Tensor:
    if embeddings is None:
        raise ArgumentError(f"embeddings: got None; expected those of the rows, for method {method!r}")
    return embeddings


def _geometry_of(
    train: tuple[Tensor, Tensor], logits: Tensor, embeddings: Tensor | None, scale: str
) -> ClassGeometry:
    """Return the geometry of training rows, on the scale that the scores of other rows are made on."""
    if scale == "auto":
        scale = embedding_scale(logits, _required(embeddings, "geometry"))
    return ClassGeometry.fit(*train, logits.shape[1], scale=scale)


def _best(
    logits: Tensor, labels: _Labels, embeddings: Tensor | None, options: dict[str, Any], seed: int
) -> BaseAdjustment:
    """Return the geometry where it gains clearly, else the best offsets, fitted on all rows, or no change."""
    rows = require_fit_rows(logits, labels, "the best of several methods").long()
    logits = logits.cpu().double()
    found: dict[str, Callable[..., BaseAdjustment]] = {}
    if options["class_counts"] is not None:
        found["prior"] = partial(adjust, method="prior", tau="fit", class_counts=options["class_counts"])
    notes, geometry = [], None
    if logits.numel() <= MOST_CELLS:
        # Chosen once: to choose it again in every fold would take five times as long.
        penalty = _fitted(logits, rows, options["penalty"], (seed + 1) % 2**63)[3]["penalty"]
        found["fitted"] = partial(adjust, method="fitted", penalty=penalty)
    else:
        much = f"{len(rows):,} rows of {logits.shape[1]:,} classes"
        notes.append(f"an offset a class and another layer would take too long for {much}")
    if embeddings is not None:
        try:
            if options["geometry"] is None and options["train"] is not None:
                options["geometry"] = _geometry_of(options["train"], logits, embeddings, options["scale"])
            names = ("class_counts", "geometry", "moments", "kappa", "scale", "layer", "k")
            how = {name: options[name] for name in names}
            geometry = fit_geometry(logits, rows, embeddings, seed=seed, **how)
        except ArgumentError as error:
            notes.append(f"geometry cannot be fitted ({error})")
    return choose(found, logits, rows, geometry, seed=seed, note="; ".join(notes))


def _layer(method: Method, logits: Tensor, labels: _Labels, given: Options) -> LinearAdjustment:
    """Return the linear layer of a control."""
    rows, scale, train = _required(given["embeddings"], method), given["scale"], given["train"]
    if scale == "auto":
        scale = embedding_scale(logits, rows)
    if method == "tau-norm":
        kind, tau = given["kind"], given["tau"]
        require(kind == "logits", "kind", repr(kind), "'logits', of which tau-norm finds the class vectors")
        return tau_norm(logits, labels, rows, tau="fit" if tau is None else tau, scale=scale)
    if method == "refit":
        moments = given["moments"]
        others: dict[str, Any] = {
            "train": None if moments == "held-out" else train,
            "merged": moments in {"both", "auto"},
        }
        return refit(rows, labels, logits.shape[1], **others, scale=scale, seed=given["seed"])
    geometry = given["geometry"]
    if geometry is None:
        used = train or (rows, require_fit_rows(logits, labels, "the means").long())
        geometry = ClassGeometry.fit(*used, logits.shape[1], scale=scale)
    return nearest_mean(geometry) if method == "nearest-mean" else linear_discriminant(geometry)


_Found: TypeAlias = tuple[Tensor, float, str, dict[str, float]]


def _surprise(class_counts: Tensor | Sequence[float] | None, classes: int) -> Tensor:  # (C,)
    """Minus the logarithm of the training prior, in nats."""
    require(class_counts is not None, "class_counts", "None", "the training instances of each class")
    counts = class_values("class_counts", class_counts, classes)
    require_of_each_class("class_counts", counts, ~counts.isnan(), "numbers of at least 0")
    require(bool((counts > 0).any()), "class_counts", "0 for every class", "at least one training instance")
    counts = counts.where(counts > 0, counts[counts > 0].min())
    return -(counts / counts.sum()).log()


def _guide(amounts: Tensor | Sequence[float] | None, classes: int) -> Tensor:  # (C,)
    """The guide that the amounts make, in radians, of mean 0."""
    require(amounts is not None, "amounts", "None", "the information amount of each class, in bits")
    bits = class_values("amounts", amounts, classes)
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
