"""Fit what the geometry counts for in a decision: a few numbers, on labelled rows that are not reported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from bisector.checks import require_embeddings
from bisector.errors import require, require_choice, require_integer, require_number
from bisector.information.geometry import ClassGeometry
from bisector.information.rows import require_finite
from bisector.posthoc.adjustment import Kind, logits_of
from bisector.posthoc.fit import (
    LEAST_GAIN,
    balanced_mean,
    balanced_weights,
    class_values,
    dealt_folds,
    fit_temperature,
    require_fit_rows,
)
from bisector.posthoc.geometry import GeometryAdjustment, decision_features
from bisector.posthoc.linear import MOST_CELLS, LinearAdjustment, linear_layer, refit

Moments: TypeAlias = Literal["auto", "train", "held-out", "both"]
MOMENTS: tuple[Moments, ...] = ("auto", "train", "held-out", "both")

_ROWS = {"train": "training rows", "held-out": "held-out rows", "both": "training and held-out rows"}
_MOST_ROWS = 8192  # to tell the scale of embeddings by
_KAPPAS = (16.0, 256.0)  # that cross-validation chooses from
_PRIOR = 4.0  # one over the variance of what features add to a row, in units of what calibrated logits are
_LEAST = 6.0  # nats, of that unit: logits that tell nothing keep no feature from telling more
_STEPS = 100
_MOST_NUMBERS = 2**26  # of embeddings with which a layer is trained again
_NOISE = 1e-9  # of the size of a feature: less is rounding
_LAYER = 4  # the column of the layer's logits


def fit_geometry(
    scores: Tensor,  # (N, C)
    labels: Tensor | Sequence[int] | None,  # (N,)
    embeddings: Tensor,  # (N, D)
    geometry: ClassGeometry | None = None,
    *,
    moments: Moments = "both",
    kappa: float | Literal["auto"] | None = "auto",
    scale: str = "auto",
    kind: Kind = "logits",
    class_counts: Tensor | Sequence[float] | None = None,  # (C,)
    count_term: bool = True,
    layer: bool | Literal["auto"] = "auto",
    penalty: float | Literal["cross-validate"] = "cross-validate",
    k: int | None = 32,
    least: float = 1.0,
    folds: int = 5,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> GeometryAdjustment:
    r"""Find the numbers of a `GeometryAdjustment` that have the least balanced cross-entropy on labelled rows.

    Three to five numbers, whatever C is, of a convex loss, with a normal prior about calibrated logits. They are
    kept only if they lower the cross-validated balanced cross-entropy, against a temperature alone, by more than
    `least` standard errors, and do not lower the balanced accuracy; otherwise the result is the identity. (Fixed
    numbers would do on networks that were trained end to end, and lose 15 points on frozen encoders: so there are
    none.)

    A network that has learned its training rows by heart shows them narrower than new ones. So the means and
    covariances may also be those of the rows given here, and a last layer may be trained again on them: each row is
    then scored by what the other folds have shown.

    Args:
        scores: (N, C) of rows of which neither the network nor the geometry has seen any.
        labels: (N,) their classes.
        embeddings: (N, D) of the same rows.
        geometry: of the training rows, if they are at hand.
        moments: which rows' means and covariances: "train", those of `geometry`; "held-out", those given here;
            "both" (without a geometry those given here); or "auto", whichever has the lowest cross-validated loss.
        kappa: how many rows the pooled covariance counts for in each class; "auto" for 16 or 256, whichever has the
            lower cross-validated loss; None for that of `geometry`.
        scale: of the embeddings where there is no geometry: "raw", "unit" for those of a cosine head, or "auto", as
            `embedding_scale` has it.
        kind: what the scores are: "logits" or "probabilities".
        class_counts: (C,) training instances; those of `geometry` if None.
        count_term: whether t is fitted too, where the counts are known and differ twofold at least; else it is 0.
        layer: whether a last layer that is trained again on these rows (`refit`) has a share too; "auto": if that
            lowers the cross-validated loss, every class has two rows, and there are no more than 4 million scores
            and 64 million numbers of embeddings.
        penalty: of that layer, see `refit`.
        k: see `GeometryAdjustment`; rows of another class than these teach nothing.
        least: how many standard errors the loss must fall by; `-math.inf` to keep what is fitted in any case.
        folds: of the cross-validation.
        seed: of the folds.
        class_names: to be kept with the result.

    Raises:
        ArgumentError: an argument is not as described, or no class has two rows.

    >>> draw = torch.Generator().manual_seed(0)
    >>> y = torch.arange(400) % 2
    >>> x = torch.randn(400, 4, generator=draw) * (1 + 3 * y)[:, None]  # two classes about one mean, one wider
    >>> scores = x[:, :2]  # which tell nothing
    >>> found = fit_geometry(scores[:200], y[:200], x[:200])
    >>> bool((found.predict(scores[200:], x[200:]) == y[200:]).double().mean() > 0.85)
    True
    """
    require_choice("moments", moments, MOMENTS)
    require(layer in (True, False, "auto"), "layer", repr(layer), "True, False or 'auto'")
    is_one = geometry is None or isinstance(geometry, ClassGeometry)
    require(is_one, "geometry", type(geometry).__name__, "a ClassGeometry")
    require(geometry is not None or moments != "train", "geometry", "None", "that of training rows")
    if kappa is not None and kappa not in ("auto", math.inf):
        require_number("kappa", kappa, above=0)
    known, dim = (None, None) if geometry is None else (geometry.num_classes, geometry.dim)
    logits = logits_of("scores", scores, kind, num_classes=known).cpu()
    truth = require_fit_rows(logits, labels, "the geometry's share").long()
    require_integer("folds", folds, least=2)
    require(len(truth) >= folds, "scores", f"{len(truth)} rows", f"at least {folds}, one a fold")
    require_embeddings("embeddings", embeddings, dim)
    require_finite("embeddings", embeddings.detach().cpu())
    fits = len(embeddings) == len(logits)
    require(fits, "embeddings", f"shape {tuple(embeddings.shape)}", f"({len(logits)}, D)")
    counts = None if geometry is None else geometry.counts
    if class_counts is not None:
        counts = class_values("class_counts", class_counts, logits.shape[1])
    columns = [*range(4 if count_term and counts is not None and _uneven(counts) else 3)]
    if geometry is None and scale == "auto":
        scale = embedding_scale(logits, embeddings)
    rows = _HeldOut(logits, truth, embeddings, geometry, scale, k, dealt_folds(truth, folds, seed))
    with_columns = [columns]
    if layer is True or (layer == "auto" and _may_refit(logits, truth, embeddings)):
        require(
            _two_each(logits, truth),
            "labels",
            "a class with fewer",
            "two rows of every class, for layer=True",
        )
        rows.refit(penalty, seed)
        with_columns = [columns, [*columns, _LAYER]][-1 if layer is True else 0 :]
    candidates: tuple[Moments, ...] = (moments,) if moments != "auto" else MOMENTS[1:]
    if geometry is None:
        candidates = ("held-out",)
    if kappa is None:
        kappa = _KAPPAS[0] if geometry is None else geometry.kappa
    kappas = _KAPPAS if kappa == "auto" else (float(kappa),)
    best = max(
        (
            _Found(which, strength, chosen, taken, *rows.gain(taken))
            for which in candidates
            for strength, features in zip(kappas, rows.features(which, kappas, counts), strict=True)
            for chosen in with_columns
            for taken in [features[:, :, chosen]]
        ),
        key=lambda one: one.gain,
    )
    found = rows.geometry(best.moments).shrunk(best.kappa)
    told = best.told(len(truth))
    numbers: dict[str, Any] = {"a": 1.0}
    clear = best.gain > max(least * best.error, LEAST_GAIN)
    if least == -math.inf or (clear and best.accuracy >= 0):
        fitted = rows.fit(best.features).tolist()
        numbers = {"abetr"[column]: number for column, number in zip(best.columns, fitted, strict=True)}
        numbers["a"] /= rows.temperature
    elif clear:
        told = f"{told}, but balanced accuracy falls, so the scores stay as they are"
    else:
        told = f"{told}: not by more than that, so the scores stay as they are"
    settings = {"log_loss_gain": best.gain, "standard_error": best.error}
    settings |= {} if rows.layer is None else rows.layer.settings
    return GeometryAdjustment(
        found,
        **numbers,
        layer=rows.layer,
        k=k,
        kind=kind,
        description=told,
        settings=settings,
        class_names=tuple(class_names),
        class_counts=counts,
        moments=best.moments,
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """What cross-validation says of one choice.

    Args:
        moments: whose means and covariances.
        kappa: see `ClassGeometry`.
        columns: of the features.
        features: (N, C or k, p) of these columns.
        gain: how much lower the balanced log-loss is than by a temperature alone.
        error: of the gain.
        accuracy: how much higher the balanced accuracy is.
    """

    moments: Moments
    kappa: float
    columns: list[int]
    features: Tensor
    gain: float
    error: float
    accuracy: float

    def told(self, rows: int) -> str:
        """Return the same in words."""
        layer = ", and the last layer trained again on these" * (_LAYER in self.columns)
        return (
            f"with means and covariances of {_ROWS[self.moments]} and kappa = {self.kappa:g}{layer}, "
            f"cross-validated on {rows:,} rows, the geometry takes {self.gain:.3g} nats off the balanced log-loss "
            f"(standard error {self.error:.2g})"
        )


def _uneven(counts: Tensor) -> bool:
    """Whether counts differ twofold at least: from less nothing is learned."""
    known = counts[counts > 0]
    return len(known) > 0 and float(known.max() / known.min()) >= 2


def embedding_scale(
    scores: Tensor,  # (N, C)
    embeddings: Tensor,  # (N, D)
) -> Literal["raw", "unit"]:
    """Return "unit" where the scores are made of directions alone, as those of a cosine head, else "raw".

    That is where a linear layer over unit embeddings leaves less than half as much of the scores' variance
    unexplained as one over raw embeddings. No label is asked.

    >>> x, w = torch.randn(200, 8), torch.randn(3, 8)
    >>> unit = torch.nn.functional.normalize(x, dim=1)
    >>> embedding_scale(x @ w.T, x), embedding_scale(30 * unit @ w.T, x)
    ('raw', 'unit')
    """
    require_embeddings("embeddings", embeddings)
    require_finite("embeddings", embeddings.detach().cpu())
    rows = slice(None, None, max(1, len(scores) // _MOST_ROWS))
    logits, raw = scores[rows].cpu().double(), embeddings[rows].cpu().double()
    logits = logits - logits.mean(1, keepdim=True)
    if len(raw) <= raw.shape[1] + 1:  # either explains everything
        return "raw"
    left = [float(linear_layer(logits, x)[2]) for x in (raw, torch.nn.functional.normalize(raw, dim=1))]
    return "unit" if left[1] < left[0] / 2 else "raw"


def layer_penalty(
    logits: Tensor,  # (N, C)
    labels: Tensor,  # (N,)
    embeddings: Tensor,  # (N, D)
    *,
    scale: str,
    seed: int = 0,
) -> float | Literal["cross-validate"]:
    """Return the penalty of a last layer trained again on these rows, to be used in the folds of a trial too.

    To choose it anew in every fold would take five times as long. "cross-validate" where `fit_geometry` would train
    no layer.
    """
    if not _may_refit(logits, labels, embeddings):
        return "cross-validate"
    return refit(embeddings, labels, logits.shape[1], scale=scale, seed=seed).settings["penalty"]


def _may_refit(logits: Tensor, labels: Tensor, embeddings: Tensor) -> bool:
    """Whether a layer can be trained again on these rows, and they are not too many to wait for it."""
    few = logits.numel() <= MOST_CELLS and embeddings.numel() <= _MOST_NUMBERS
    return few and _two_each(logits, labels)


def _two_each(logits: Tensor, labels: Tensor) -> bool:
    """Whether every class has two rows.

    The layer of the fold that holds a class's only row has not seen the class, says so by its bias, and thereby
    which row of the fold is of it.
    """
    return bool((torch.bincount(labels, minlength=logits.shape[1]) >= 2).all())


class _HeldOut:
    """Labelled rows that the geometry is fitted on, in folds.

    Args:
        logits: (N, C).
        labels: (N,).
        embeddings: (N, D).
        train: the geometry of the training rows.
        scale: of the embeddings where there is none.
        k: of each row the k classes of the highest logits are looked at; None for all.
        fold: (N,) of each row.
    """

    def __init__(
        self,
        logits: Tensor,
        labels: Tensor,
        embeddings: Tensor,
        train: ClassGeometry | None,
        scale: str,
        k: int | None,
        fold: Tensor,
    ) -> None:
        self.logits, self.labels, self.embeddings = logits, labels, embeddings
        self.train, self.scale = train, scale if train is None else train.scale
        self.layer: LinearAdjustment | None = None
        self.chosen: Tensor | None = None
        self.own = labels  # the place of a row's class among those that are looked at
        # Whether it is among them: else nothing is learned of the row.
        self.inside = torch.ones_like(labels, dtype=torch.bool)
        if k is not None and require_integer("k", k, least=1) < logits.shape[1]:
            self.chosen = logits.topk(k, dim=1).indices
            self.own = (self.chosen == labels[:, None]).to(torch.int8).argmax(1)
            self.inside = (self.chosen == labels[:, None]).any(1)
        looked_at = logits if self.chosen is None else logits.gather(1, self.chosen)
        self.temperature = fit_temperature(looked_at[self.inside], self.own[self.inside])
        self.parts = [fold == number for number in sorted(set(fold.tolist()))]

    def geometry(self, moments: str, rows: Tensor | None = None) -> ClassGeometry:
        """Return the geometry of training rows, of some of these rows, or of both."""
        if moments == "train":
            assert self.train is not None
            return self.train
        here = slice(None) if rows is None else rows
        x, y = self.embeddings[here], self.labels[here]
        if self.train is None:
            return ClassGeometry.fit(x, y, self.logits.shape[1], scale=self.scale)
        return self.train.refitted(x, y, merged=moments == "both")

    def refit(self, penalty: float | Literal["cross-validate"], seed: int) -> None:
        """Train a last layer on all rows, whose logits are features from then on; each fold's by the others."""
        self.layer = self._refitted(slice(None), penalty, seed)

    def _refitted(self, rows: Tensor | slice, penalty: float | str, seed: int = 0) -> LinearAdjustment:
        x, y, classes = self.embeddings[rows], self.labels[rows], self.logits.shape[1]
        return refit(x, y, classes, scale=self.scale, penalty=penalty, seed=seed)  # type: ignore[arg-type]

    def features(self, moments: str, kappas: Sequence[float], counts: Tensor | None) -> list[Tensor]:
        """Return what rows are decided by, (N, C or k, p) for each kappa; each fold by its own geometry and layer.

        The geometries of the folds are made one after another, and of their factors, which are needed once, none is
        kept: all of them together would be many times as large as the rows.
        """
        looked_at = self.logits if self.chosen is None else self.chosen
        width = _LAYER + (self.layer is not None)
        found = [torch.empty(*looked_at.shape, width, dtype=torch.float64, device="cpu") for _ in kappas]
        one = None if moments != "train" else self.geometry(moments)
        shrunk = [] if one is None else [one.shrunk(kappa) for kappa in kappas]
        for out, layer in zip(self.parts, self._layers, strict=True):
            classes = None if self.chosen is None else self.chosen[out]
            if one is None:
                fold = self.geometry(moments, ~out)
                shrunk = [fold.shrunk(kappa) for kappa in kappas]
                for each in shrunk:
                    each.memory_budget = 0
            for features, each in zip(found, shrunk, strict=True):
                rows = self.logits[out], self.embeddings[out]
                features[out] = decision_features(each, *rows, classes, counts, layer)
        for features in found:
            features[:, :, 0] /= self.temperature
        return found

    @cached_property
    def _layers(self) -> list[LinearAdjustment | None]:
        """The layers of the folds, each trained on the others."""
        if self.layer is None:
            return [None] * len(self.parts)
        penalty = self.layer.settings["penalty"]
        return [self._refitted(~out, penalty) for out in self.parts]

    def gain(self, features: Tensor) -> tuple[float, float, float]:
        """Return how much lower the balanced log-loss is than by a temperature alone, and the standard error.

        The third is how much higher the balanced accuracy is.
        """
        gain = torch.zeros(len(self.own), dtype=torch.float64, device="cpu")
        right = torch.zeros_like(gain)
        for out in self.parts:
            others, here = ~out & self.inside, out & self.inside
            found = []
            for p in (1, features.shape[2]):
                scores = features[here, :, :p] @ self.fit(features[:, :, :p], others)
                nll = torch.nn.functional.cross_entropy(scores, self.own[here], reduction="none")
                found.append((nll, (scores.argmax(1) == self.own[here]).double()))
            (before, old), (after, new) = found
            gain[here], right[here] = before - after, new - old
        return *balanced_mean(gain, self.labels), balanced_mean(right, self.labels)[0]

    def fit(self, features: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the (p,) coefficients of these rows, those whose class is looked at."""
        rows = self.inside if rows is None else rows
        weights = balanced_weights(self.labels[rows], self.logits.shape[1])
        return _fit(features[rows], self.own[rows], weights)


def _fit(features: Tensor, own: Tensor, weights: Tensor) -> Tensor:
    """Return the (p,) coefficients of least weighted cross-entropy, the first, of the logits, at least 0.

    Args:
        features: (N, k, p).
        own: (N,) the place of each row's class among its k.
        weights: (N,) of the rows.

    They have a normal prior about (1, 0, ...), with which what a feature adds to a row has a standard deviation of
    half that of the row's logits, or of 3 nats if that is more: few rows learn little, and rows that can be told
    apart perfectly have a minimum.
    """
    # In units in which every feature spreads by 1 within a row on average.
    unit = (features - features.mean(1, keepdim=True)).square().mean((0, 1)).sqrt()
    prior = _PRIOR / (max(len(own), 1) * max(_LEAST, float(unit[0])) ** 2)
    size = features.abs().amax((0, 1)) if len(features) else unit
    unit = torch.where(unit > _NOISE * size, unit, 1.0)
    scaled, origin = features / unit, torch.zeros_like(unit)
    origin[0] = unit[0]
    theta = _minimum(scaled, own, weights, prior, origin)
    if float(theta[0]) < 0:  # the others say all that the logits say, and better
        rest = _minimum(scaled[:, :, 1:], own, weights, prior, origin[1:]) if len(theta) > 1 else theta[1:]
        theta = torch.cat([torch.zeros_like(theta[:1]), rest])
    return theta / unit


def _minimum(features: Tensor, own: Tensor, weights: Tensor, prior: float, origin: Tensor) -> Tensor:
    """Return the (p,) coefficients of least weighted cross-entropy, by Newton's method with halved steps.

    Args:
        features: as in `_fit`.
        own: as in `_fit`.
        weights: as in `_fit`.
        prior: one over the variance of the coefficients, divided by the rows.
        origin: (p,) their mean, where the search begins too.
    """
    theta = origin.clone()

    def objective(theta: Tensor) -> Tensor:
        losses = torch.nn.functional.cross_entropy(features @ theta, own, reduction="none")
        penalty: Tensor = prior / 2 * (theta - origin).square().sum()
        return (weights * losses).sum() + penalty

    value = objective(theta)
    rows = torch.arange(len(own), device="cpu")
    for _ in range(_STEPS):
        p = (features @ theta).softmax(1)
        mean = (p[:, :, None] * features).sum(1)
        gradient = (weights[:, None] * (mean - features[rows, own])).sum(0) + prior * (theta - origin)
        centred = features - mean[:, None]
        hessian = torch.einsum("n,nc,ncp,ncq->pq", weights, p, centred, centred)
        hessian.diagonal().add_(prior)
        step = torch.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and not bool(objective(theta - size * step) <= value):
            size /= 2
        if size <= 1e-6:  # rounding alone is left
            break
        theta = theta - size * step
        last, value = value, objective(theta)
        if float(last - value) <= 1e-12 * max(1.0, abs(float(value))):
            break
    return theta
