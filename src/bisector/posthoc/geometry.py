"""Geometry in the decision: a network's own logits pooled with how well a row fits each class."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.checks import require_embeddings
from bisector.errors import ArgumentError, require, require_choice, require_integer, require_number
from bisector.files import reading
from bisector.information.geometry import ClassGeometry
from bisector.information.rows import require_finite
from bisector.posthoc.adjustment import BaseAdjustment, Kind, logits_of, require_suffix
from bisector.posthoc.fit import balanced_mean, balanced_weights, class_values, dealt_folds, require_fit_rows
from bisector.posthoc.linear import linear_layer
from bisector.posthoc.modules import AdjustmentModule, GeometryModule, OffsetModule

Moments: TypeAlias = Literal["auto", "train", "held-out", "both"]
MOMENTS: tuple[Moments, ...] = ("auto", "train", "held-out", "both")

_ROWS = {"train": "training rows", "held-out": "held-out rows", "both": "training and held-out rows"}
_NUMBERS = ("a", "b", "e", "t", "k", "kind", "method", "description", "moments")
_CELLS = 2**23  # numbers that a block of rows may take while it is adjusted
_MOST_ROWS = 8192  # to tell the scale of embeddings by
_KAPPAS = (16.0, 256.0)  # that cross-validation chooses from
_PRIOR = 4.0  # one over the variance of what features add to a row, in units of what the logits are
_STEPS = 100


@dataclass(frozen=True, eq=False)
class GeometryAdjustment(BaseAdjustment):
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
        method: how it was found.
        description: the same in a sentence.
        settings: numbers that were fitted or measured.
        class_names: of the columns, where they are known.
        class_counts: (C,) n, the training instances; those of the geometry if None.
        moments: whose means and covariances they are: "train", "held-out" or "both"; empty where nobody says.

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
    method: str = "geometry"
    description: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    class_counts: Tensor | None = None
    moments: str = ""

    def __post_init__(self) -> None:
        require_number("a", self.a, least=0)
        for name in ("b", "e", "t"):
            require_number(name, getattr(self, name))
        if self.k is not None:
            require_integer("k", self.k, least=1)
        if self.class_counts is not None:
            counts = class_values("class_counts", self.class_counts, self.num_classes)
            object.__setattr__(self, "class_counts", counts)
        self._require_consistent()

    @property
    def num_classes(self) -> int:
        """C."""
        return self.geometry.num_classes

    @property
    def is_identity(self) -> bool:
        """Whether no prediction changes."""
        return self.b == self.e == self.t == 0 and self.a > 0

    @property
    def needs_embeddings(self) -> bool:
        """Whether rows are decided by their embeddings too: unless it is the identity."""
        return not self.is_identity

    @property
    def meaning(self) -> str:
        """What the fitted numbers mean, in words."""
        if self.is_identity:
            return "a = 1, b = e = t = 0: the logits decide alone."
        share = "the logits decide with" if self.a else "the logits are left out;"
        parts = [
            f"a = {self.a:.3g} and b = {self.b:.3g}: {share} how well a row fits each class",
            f"e = {self.e:.3g}: a class pays {self.e:.3g} logits for each nat that its volume lies above the mean",
        ]
        if self.t:
            more = "less" if self.t < 0 else "more"
            parts.append(
                f"t = {self.t:.3g}: a class of tenfold count gets {abs(self.t) * math.log(10):.2g} logits {more}"
            )
        return "; ".join(parts) + "."

    def adjusted_logits(
        self,
        logits: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> Tensor:
        """Return the (N, C) logits after, float64 on the CPU.

        Raises:
            ArgumentError: a shape does not fit, an embedding is not finite, or embeddings are needed.
        """
        logits = logits.cpu().double()
        if self.is_identity:
            return self.a * logits
        if embeddings is None:
            raise ArgumentError("embeddings: got None; expected those of the rows, which the geometry scores")
        fits = embeddings.dim() == 2 and len(embeddings) == len(logits)
        expected = f"({len(logits)}, {self.geometry.dim})"
        require(fits, "embeddings", f"shape {tuple(embeddings.shape)}", expected)
        found = torch.empty_like(logits)
        step = max(1, _CELLS // (4 * min(self.k or self.num_classes, self.num_classes) + self.geometry.dim))
        for start in range(0, len(logits), step):
            rows = slice(start, start + step)
            self._block(logits[rows], embeddings[rows], found[rows])
        return found

    def apply_and_predict(
        self,
        scores: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> tuple[Tensor, Tensor]:
        """Return what `apply` and what `predict` do: rows are scored once, for both are computed in float64."""
        logits = self.adjusted_logits(self._logits(scores), embeddings)
        adjusted = logits.softmax(dim=1) if self.kind == "probabilities" else logits
        return adjusted.to(scores), logits.argmax(1).to(scores.device)

    def _block(self, logits: Tensor, embeddings: Tensor, found: Tensor) -> None:
        """Fill the (n, C) logits after; in place, since to touch new memory costs as much as to compute."""
        theta = torch.tensor([self.a, self.b, self.e, self.t], dtype=torch.float64, device="cpu")
        if self.k is None or self.k >= logits.shape[1]:
            torch.matmul(_features(self.geometry, logits, embeddings, None, self._counts), theta, out=found)
            return
        top = logits.topk(self.k, dim=1)
        highest = _features(self.geometry, logits, embeddings, top.indices, self._counts) @ theta
        floor = highest.min(1, keepdim=True).values - self.a * top.values[:, -1:]
        torch.mul(logits, self.a, out=found).add_(floor).sub_(1e-9).scatter_(1, top.indices, highest)

    def module(self, dtype: torch.dtype = torch.float32) -> AdjustmentModule:
        """Return `apply` as a module with buffers alone; of the identity, one that needs no embeddings."""
        if self.is_identity:
            nothing = torch.zeros(self.num_classes, dtype=torch.float64, device="cpu")
            return OffsetModule(nothing, self.a, self.kind).to(dtype)
        volume, count = _of_classes(self.geometry, self._counts)
        return GeometryModule(
            self.geometry.factors(),
            self.e * volume + self.t * count,
            self.a,
            self.b,
            self.geometry.dof,
            self.k,
            self.geometry.scale,
            self.kind,
        ).to(dtype)

    @property
    def _counts(self) -> Tensor:
        return self.geometry.counts if self.class_counts is None else self.class_counts

    def save(self, path: Path | str) -> None:
        """Write as one safetensors file, the geometry in it, whole or not at all.

        Raises:
            ArgumentError: the file is not called .safetensors.
            MissingExtraError: safetensors is not installed.
            OSError: the file cannot be written.
        """
        told = {name: getattr(self, name) for name in _NUMBERS}
        told |= {"settings": dict(self.settings), "class_names": list(self.class_names)}
        told["class_counts"] = None if self.class_counts is None else self.class_counts.tolist()
        require_suffix(path)
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
            counts = told.pop("class_counts")
            told["class_counts"] = None if counts is None else torch.tensor(counts, dtype=torch.float64)
            return cls(geometry, class_names=tuple(map(str, told.pop("class_names"))), **told)


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
    k: int | None = 32,
    least: float = 1.0,
    folds: int = 5,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> GeometryAdjustment:
    r"""Find (a, b, e) or (a, b, e, t) of least balanced cross-entropy on labelled rows.

    Three or four numbers, whatever C is, of a convex loss, with a normal prior about the identity. They are kept
    only if they lower the cross-validated balanced cross-entropy, against a temperature alone, by more than `least`
    standard errors, and do not lower the balanced accuracy; otherwise the result is the identity. (Fixed numbers
    would do on networks that were trained end to end, and lose 15 points on frozen encoders: so there are none.)

    A network that has learned its training rows by heart shows them narrower than new ones. So the means and
    covariances may also be those of the rows given here: each row is then scored by those of the other folds.

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
    fits = len(embeddings) == len(logits)
    require(fits, "embeddings", f"shape {tuple(embeddings.shape)}", f"({len(logits)}, D)")
    counts = None if geometry is None else geometry.counts
    if class_counts is not None:
        counts = class_values("class_counts", class_counts, logits.shape[1])
    width = 4 if count_term and counts is not None and _uneven(counts) else 3
    if geometry is None and scale == "auto":
        scale = embedding_scale(logits, embeddings)
    rows = _HeldOut(logits, truth, embeddings, geometry, scale, k, dealt_folds(truth, folds, seed))
    candidates = ("held-out",) if geometry is None else MOMENTS[1:] if moments == "auto" else (moments,)
    best: tuple[float, float, float, Tensor, float, str] | None = None
    if kappa is None:
        kappa = _KAPPAS[0] if geometry is None else geometry.kappa
    kappas = _KAPPAS if kappa == "auto" else (float(kappa),)
    for which in candidates:
        for strength, features in zip(kappas, rows.features(which, kappas, counts, width), strict=True):
            mean, error, accuracy = rows.gain(features)
            if best is None or mean > best[0]:
                best = mean, error, accuracy, features, strength, which
    assert best is not None
    mean, error, accuracy, features, strength, taken = best
    found = rows.geometry(taken).shrunk(strength)
    told = (
        f"with means and covariances of {_ROWS[taken]} and kappa = {found.kappa:g}, cross-validated on "
        f"{len(truth):,} rows, the geometry takes {mean:.3g} nats off the balanced log-loss (standard error "
        f"{error:.2g})"
    )
    a, b, e, t = 1.0, 0.0, 0.0, 0.0
    if least == -math.inf or (mean > least * error and accuracy >= 0):
        a, b, e, t = (*rows.fit(features).tolist(), 0.0)[:4]
    elif mean > least * error:
        told = f"{told}, but balanced accuracy falls, so the scores stay as they are"
    else:
        told = f"{told}: not by more than that, so the scores stay as they are"
    settings = {"log_loss_gain": mean, "standard_error": error}
    return GeometryAdjustment(
        found,
        a,
        b,
        e,
        t,
        k=k,
        kind=kind,
        description=told,
        settings=settings,
        class_names=tuple(class_names),
        class_counts=counts,
        moments=taken,
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
        self.train, self.scale = train, scale
        self.chosen: Tensor | None = None
        self.own = labels  # the place of a row's class among those that are looked at
        # Whether it is among them: else nothing is learned of the row.
        self.inside = torch.ones_like(labels, dtype=torch.bool)
        if k is not None and require_integer("k", k, least=1) < logits.shape[1]:
            self.chosen = logits.topk(k, dim=1).indices
            self.own = (self.chosen == labels[:, None]).to(torch.int8).argmax(1)
            self.inside = (self.chosen == labels[:, None]).any(1)
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

    def features(
        self, moments: str, kappas: Sequence[float], counts: Tensor | None, width: int
    ) -> list[Tensor]:
        """Return what rows are decided by, (N, C or k, width) for each kappa; each fold by its own geometry.

        The geometries of the folds are made one after another, and of their factors, which are needed once, none is
        kept: all of them together would be many times as large as the rows.
        """
        looked_at = self.logits if self.chosen is None else self.chosen
        found = [torch.empty(*looked_at.shape, width, dtype=torch.float64, device="cpu") for _ in kappas]
        one = None if moments != "train" else self.geometry(moments)
        shrunk = [] if one is None else [one.shrunk(kappa) for kappa in kappas]
        for out in self.parts:
            classes = None if self.chosen is None else self.chosen[out]
            if one is None:
                fold = self.geometry(moments, ~out)
                shrunk = [fold.shrunk(kappa) for kappa in kappas]
                for each in shrunk:
                    each.memory_budget = 0
            for features, each in zip(found, shrunk, strict=True):
                everything = _features(each, self.logits[out], self.embeddings[out], classes, counts)
                features[out] = everything[:, :, :width]
        return found

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


def _features(
    geometry: ClassGeometry,
    logits: Tensor,  # (N, C)
    embeddings: Tensor,  # (N, D)
    classes: Tensor | None,  # (N, k)
    counts: Tensor | None,  # (C,)
) -> Tensor:  # (N, C or k, 4)
    """Return logits, evidence, minus the volumes and the logarithms of the counts; 0 for what is not known."""
    evidence = geometry.evidence(embeddings, classes)
    known = ~evidence.isnan()
    mean = evidence.nansum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)
    each = _of_classes(geometry, counts)
    chosen = [v.expand_as(logits) if classes is None else v[classes] for v in each]
    logits = (logits if classes is None else logits.gather(1, classes)).double()
    return torch.stack([logits, torch.where(known, evidence, mean), *chosen], 2)


def _of_classes(geometry: ClassGeometry, counts: Tensor | None) -> list[Tensor]:  # 2 x (C,)
    """Return minus the volumes and the logarithms of the counts, less their means; 0 for what is not known."""
    counts = torch.ones_like(geometry.counts) if counts is None else counts
    each = [
        torch.where(there, values - values[there].mean(), 0.0)
        for values, there in ((-geometry.log_volume, geometry.counts > 0), (counts.log(), counts > 0))
    ]
    if geometry.kappa == math.inf:  # all volumes are one, but for rounding
        each[0] = torch.zeros_like(each[0])
    return each


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
        start: the first coefficient where nothing is learned.

    The coefficients have a normal prior about (start, 0, ...), of a standard deviation with which every feature
    spreads half as much within a row as the first one does: few rows learn little, and rows that can be told apart
    perfectly have a minimum.
    """
    # In units in which every feature spreads by 1 within a row on average.
    unit = (features - features.mean(1, keepdim=True)).square().mean((0, 1)).sqrt()
    unit = torch.where(unit > 0, unit, 1.0)
    scaled = features / unit
    theta = torch.zeros(features.shape[2], dtype=torch.float64, device="cpu")
    theta[0] = start * unit[0]
    origin = theta.clone()
    prior = _PRIOR / (max(len(own), 1) * float(unit[0]) ** 2)

    def objective(theta: Tensor) -> Tensor:
        penalty: Tensor = prior / 2 * (theta - origin).square().sum()
        return (weights * _row_losses(scaled, own, theta)).sum() + penalty

    value = objective(theta)
    rows = torch.arange(len(own), device="cpu")
    for _ in range(_STEPS):
        p = (scaled @ theta).softmax(1)
        mean = (p[:, :, None] * scaled).sum(1)
        gradient = (weights[:, None] * (mean - scaled[rows, own])).sum(0) + prior * (theta - origin)
        centred = scaled - mean[:, None]
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
    return theta / unit
