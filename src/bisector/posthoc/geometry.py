"""Geometry in the decision: a network's own logits pooled with how well a row fits each class."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.checks import require_embeddings
from bisector.errors import require, require_choice, require_integer, require_number
from bisector.files import reading
from bisector.information.geometry import ClassGeometry
from bisector.posthoc.adjustment import KINDS, Kind, logits_of
from bisector.posthoc.fit import balanced_weights, dealt_folds, require_fit_rows

Moments: TypeAlias = Literal["auto", "train", "held-out", "both"]
MOMENTS: tuple[Moments, ...] = ("auto", "train", "held-out", "both")

_ROWS = {"train": "training rows", "held-out": "held-out rows", "both": "training and held-out rows"}
_EPSILON = 1e-5  # draws fitted coefficients to the identity where rows can be told apart perfectly
_STEPS = 100


@dataclass(frozen=True, eq=False)
class GeometryAdjustment:
    r"""A decision over logits, densities, volumes and counts of the classes.

    .. math:: z'_c(x) = a\, l_c(x) + b\, g_c(x) - e\, A_c + t \ln n_c

    with l the logits, g the `ClassGeometry.evidence`, A the `ClassGeometry.log_volume` less its mean, n the counts.
    A wide class pays A and gains through g: boundaries that no linear head and no offset can have. A class without
    rows takes the means of the others.

    Args:
        geometry: of the classes, from rows that are not reported.
        a: what the logits count for, at least 0.
        b: what the evidence counts for.
        e: what the volume costs.
        t: what the logarithm of the count counts for.
        k: of each row only the k classes of the highest logits are looked at; all others stay below them, in the
            order of their logits. None: all.
        kind: what the scores are: "logits" or "probabilities".
        description: how it was found, in a sentence.
        settings: numbers that were fitted or measured.
        class_names: of the columns, where they are known.

    Raises:
        ArgumentError: an argument is not as described.
    """

    geometry: ClassGeometry
    a: float = 1.0
    b: float = 0.0
    e: float = 0.0
    t: float = 0.0
    k: int | None = None
    kind: Kind = "logits"
    description: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_number("a", self.a, least=0)
        for name in ("b", "e", "t"):
            require_number(name, getattr(self, name))
        if self.k is not None:
            require_integer("k", self.k, least=1)
        require_choice("kind", self.kind, KINDS)
        names, classes = len(self.class_names), self.geometry.num_classes
        require(names in {0, classes}, "class_names", f"{names} names", f"{classes}")

    @property
    def is_identity(self) -> bool:
        """Whether no prediction changes."""
        return self.b == self.e == self.t == 0

    def apply(
        self,
        scores: Tensor,  # (N, C)
        embeddings: Tensor,  # (N, D)
    ) -> Tensor:
        """Return the (N, C) adjusted scores, logits for logits and probabilities for probabilities, in their dtype.

        Raises:
            ArgumentError: a shape does not fit, or a number is not finite.
        """
        adjusted = self._logits(scores, embeddings)
        if self.kind == "probabilities":
            adjusted = adjusted.softmax(1)
        return adjusted.to(scores)

    def predict(
        self,
        scores: Tensor,  # (N, C)
        embeddings: Tensor,  # (N, D)
    ) -> Tensor:
        """Return the (N,) classes that score highest after the adjustment.

        Raises:
            ArgumentError: as `apply`.
        """
        return self._logits(scores, embeddings).argmax(1).to(scores.device)

    def save(self, path: Path | str) -> None:
        """Write as one safetensors file, the geometry in it, whole or not at all.

        Raises:
            MissingExtraError: safetensors is not installed.
            OSError: the file cannot be written.
        """
        numbers = {name: getattr(self, name) for name in ("a", "b", "e", "t", "k", "kind", "description")}
        told = {**numbers, "settings": dict(self.settings), "class_names": list(self.class_names)}
        self.geometry.save(path, geometry_adjustment=json.dumps(told))

    @classmethod
    def load(cls, path: Path | str) -> "GeometryAdjustment":
        """Read what `save` wrote.

        Raises:
            DamagedFileError: the file holds no such adjustment.
            MissingExtraError: safetensors is not installed.
        """
        geometry, texts = ClassGeometry.load_with_texts(path)
        with reading(f"path: got {path}; expected the safetensors of a GeometryAdjustment"):
            told = json.loads(texts["geometry_adjustment"])
            return cls(geometry, class_names=tuple(map(str, told.pop("class_names"))), **told)

    def _logits(self, scores: Tensor, embeddings: Tensor) -> Tensor:
        logits = logits_of("scores", scores, self.kind, num_classes=self.geometry.num_classes).cpu().double()
        if self.is_identity:
            return self.a * logits
        theta = torch.tensor([self.a, self.b, self.e, self.t], dtype=torch.float64, device="cpu")
        if self.k is None or self.k >= logits.shape[1]:
            return _features(self.geometry, logits, embeddings, None) @ theta
        top = logits.topk(self.k, dim=1)
        found = _features(self.geometry, logits, embeddings, top.indices) @ theta
        floor = found.min(1, keepdim=True).values - self.a * top.values[:, -1:]
        return (self.a * logits + floor - 1e-9).scatter(1, top.indices, found)


def fit_geometry(
    scores: Tensor,  # (N, C)
    labels: Tensor | Sequence[int] | None,  # (N,)
    embeddings: Tensor,  # (N, D)
    geometry: ClassGeometry | None = None,
    *,
    moments: Moments = "auto",
    scale: str = "raw",
    kind: Kind = "logits",
    count_term: bool = False,
    k: int | None = None,
    folds: int = 5,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> GeometryAdjustment:
    r"""Find (a, b, e) or (a, b, e, t) of least balanced cross-entropy on labelled rows.

    Three or four numbers, whatever C is, of a convex loss. They are kept only if they lower the cross-validated
    balanced cross-entropy, against a temperature alone, by more than one standard error; otherwise the result is
    the identity. (Fixed numbers would do on networks that were trained end to end, and lose 15 points on frozen
    encoders: so there are none.)

    A network that has learned its training rows by heart shows them narrower than new ones. So the means and
    covariances may also be those of the rows given here: each row is then scored by those of the other folds.

    Args:
        scores: (N, C) of rows of which neither the network nor the geometry has seen any.
        labels: (N,) their classes.
        embeddings: (N, D) of the same rows.
        geometry: of the training rows, if they are at hand.
        moments: which rows' means and covariances: "train", those of `geometry`; "held-out", those given here;
            "both"; or "auto", whichever has the lowest cross-validated loss.
        scale: of the embeddings where there is no geometry: "raw", or "unit" for those of a cosine head.
        kind: what the scores are: "logits" or "probabilities".
        count_term: whether t is fitted too, where the counts differ twofold at least; else it is 0.
        k: see `GeometryAdjustment`; where rows are fitted, their own class is looked at as well.
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
    require(
        geometry is not None or moments in {"auto", "held-out"}, "geometry", "None", "that of training rows"
    )
    known, dim = (None, None) if geometry is None else (geometry.num_classes, geometry.dim)
    logits = logits_of("scores", scores, kind, num_classes=known).cpu().double()
    truth = require_fit_rows(logits, labels, "the geometry's share").long()
    classes = logits.shape[1]
    require_integer("folds", folds, least=2)
    require(len(truth) >= folds, "scores", f"{len(truth)} rows", f"at least {folds}, one a fold")
    require_embeddings("embeddings", embeddings, dim)
    fits = len(embeddings) == len(logits)
    require(fits, "embeddings", f"shape {tuple(embeddings.shape)}", f"({len(logits)}, D)")
    chosen = None
    if k is not None and require_integer("k", k, least=1) < classes:
        chosen = _with_truth(logits.topk(k, dim=1).indices, truth)
    own = truth if chosen is None else (chosen == truth[:, None]).to(torch.int8).argmax(1)
    fold = dealt_folds(truth, folds, seed)
    parts = [fold == held_out for held_out in range(folds) if bool((fold == held_out).any())]

    def geometry_of(rows: Tensor, which: str) -> ClassGeometry:
        if which == "train":
            assert geometry is not None
            return geometry
        if geometry is None:
            return ClassGeometry.fit(embeddings[rows], truth[rows], classes, scale=scale)
        return geometry.refitted(embeddings[rows], truth[rows], merged=which == "both")

    best: tuple[float, float, str, Tensor] | None = None
    candidates: tuple[str, ...] = (moments,)
    if moments == "auto":
        candidates = MOMENTS[1:] if geometry is not None else ("held-out",)
    for which in candidates:
        features = torch.empty(*own.shape, classes if chosen is None else k or 0, 4, dtype=torch.float64)
        for out in parts:
            picked = None if chosen is None else chosen[out]
            features[out] = _features(geometry_of(~out, which), logits[out], embeddings[out], picked)
        counts = geometry_of(torch.ones_like(fold, dtype=torch.bool), which).counts
        counts = counts[counts > 0]
        features = features[:, :, : 4 if count_term and float(counts.max() / counts.min()) >= 2 else 3]
        mean, error = _cross_validated(features, own, truth, classes, parts)
        if best is None or mean > best[0]:
            best = mean, error, which, features
    assert best is not None
    mean, error, taken, features = best
    told = (
        f"with means and covariances of {_ROWS[taken]}, cross-validated on {len(truth):,} rows, the geometry "
        f"lowers the balanced log-loss by {mean:.3g} nats (standard error {error:.2g})"
    )
    numbers: dict[str, float] = {}
    if mean > error:
        numbers = dict(
            zip("abet", _fit(features, own, balanced_weights(truth, classes)).tolist(), strict=False)
        )
    else:
        told = f"{told}: not by more than that, so the scores stay as they are"
    found = geometry_of(torch.ones_like(fold, dtype=torch.bool), taken)
    settings = {"log_loss_gain": mean, "standard_error": error}
    return GeometryAdjustment(
        found, **numbers, k=k, kind=kind, description=told, settings=settings, class_names=tuple(class_names)
    )


def _cross_validated(
    features: Tensor, own: Tensor, truth: Tensor, classes: int, parts: Sequence[Tensor]
) -> tuple[float, float]:
    """Return how much lower the balanced log-loss is than by a temperature alone, and the standard error."""
    gain = torch.empty(len(own), dtype=torch.float64, device="cpu")
    for out in parts:
        weights = balanced_weights(truth[~out], classes)
        before, after = (
            _row_losses(features[out, :, :p], own[out], _fit(features[~out, :, :p], own[~out], weights))
            for p in (1, features.shape[2])
        )
        gain[out] = before - after
    return _balanced(gain, truth, balanced_weights(truth, classes))


def _features(
    geometry: ClassGeometry,
    logits: Tensor,  # (N, C)
    embeddings: Tensor,  # (N, D)
    classes: Tensor | None,  # (N, k)
) -> Tensor:  # (N, C or k, 4)
    """Return logits, evidence, minus the volumes and the logarithms of the counts."""
    fits = embeddings.dim() == 2 and len(embeddings) == len(logits)
    require(fits, "embeddings", f"shape {tuple(embeddings.shape)}", f"({len(logits)}, {geometry.dim})")
    evidence = geometry.evidence(embeddings, classes)
    known = ~evidence.isnan()
    mean = evidence.nansum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)
    present = geometry.counts > 0
    volume, counts = geometry.log_volume, geometry.counts.log()
    each = [torch.where(present, values - values[present].mean(), 0.0) for values in (-volume, counts)]
    chosen = [v.expand_as(logits) if classes is None else v[classes] for v in each]
    logits = logits if classes is None else logits.gather(1, classes)
    return torch.stack([logits, torch.where(known, evidence, mean), *chosen], 2)


def _with_truth(top: Tensor, truth: Tensor) -> Tensor:
    """Return the (N, k) classes with the row's own in place of the last, where it is not among them."""
    absent = ~(top == truth[:, None]).any(1)
    top = top.clone()
    top[absent, -1] = truth[absent]
    return top


def _row_losses(features: Tensor, own: Tensor, theta: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(features @ theta, own, reduction="none")


def _fit(features: Tensor, own: Tensor, weights: Tensor) -> Tensor:
    """Return the (p,) coefficients of least weighted cross-entropy, the first at least 0."""
    theta = _minimum(features, own, weights)
    if float(theta[0]) < 0 and len(theta) > 1:  # the evidence says all that the logits say, and better
        rest = _minimum(features[:, :, 1:], own, weights, start=0.0)
        return torch.cat([torch.zeros_like(theta[:1]), rest])
    return theta


def _minimum(features: Tensor, own: Tensor, weights: Tensor, start: float = 1.0) -> Tensor:
    """Return the (p,) coefficients of least weighted cross-entropy, by Newton's method with halved steps.

    Args:
        features: (N, k, p).
        own: (N,) the place of each row's class among its k.
        weights: (N,) of the rows.
        start: the first coefficient, from which where rows can be told apart perfectly it does not go far.
    """
    # In units in which every feature spreads by 1 within a row on average.
    unit = (features - features.mean(1, keepdim=True)).square().mean((0, 1)).sqrt()
    unit = torch.where(unit > 0, unit, 1.0)
    scaled = features / unit
    theta = torch.zeros(features.shape[2], dtype=torch.float64, device="cpu")
    theta[0] = start * unit[0]
    origin = theta.clone()

    def objective(theta: Tensor) -> Tensor:
        penalty: Tensor = _EPSILON / 2 * (theta - origin).square().sum()
        return (weights * _row_losses(scaled, own, theta)).sum() + penalty

    value = objective(theta)
    rows = torch.arange(len(own), device="cpu")
    for _ in range(_STEPS):
        p = (scaled @ theta).softmax(1)
        mean = (p[:, :, None] * scaled).sum(1)
        gradient = (weights[:, None] * (mean - scaled[rows, own])).sum(0) + _EPSILON * (theta - origin)
        centred = scaled - mean[:, None]
        hessian = torch.einsum("n,nc,ncp,ncq->pq", weights, p, centred, centred)
        hessian.diagonal().add_(_EPSILON)
        step = torch.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and not bool(objective(theta - size * step) <= value):
            size /= 2
        theta = theta - size * step
        last, value = value, objective(theta)
        if float(last - value) <= 1e-12 * max(1.0, abs(float(value))):
            break
    return theta / unit


def _balanced(gain: Tensor, truth: Tensor, weights: Tensor) -> tuple[float, float]:
    """Return the balanced mean of a number of each row and its standard error, rows drawn within their classes."""
    counts = torch.bincount(truth).double()
    mean = torch.zeros_like(counts).index_add(0, truth, gain) / counts
    deviations = (gain - mean[truth]).square()
    free = (counts - 1).clamp_min(0)
    pooled = deviations.sum() / free.sum().clamp_min(1)
    variance = torch.zeros_like(counts).index_add(0, truth, deviations) / free
    variance = torch.where(free > 0, variance, pooled)
    present = counts > 0
    error = (variance[present] / counts[present]).sum().sqrt() / present.sum()
    return float((weights * gain).sum()), float(error)
