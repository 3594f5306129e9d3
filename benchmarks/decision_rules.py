"""The decisions that `benchmarks.decisions` compares: what may be done to the scores of a trained classifier.

Each is a function of a `Store`. What it fits it fits on training and validation rows; its scores are of test rows.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.tables.scores import read_scores
from bisector.errors import require
from bisector.heads import build_head
from bisector.information.geometry import ClassGeometry
from bisector.information.rows import on_scale
from bisector.metrics.groups import class_accuracy
from bisector.metrics.summary import fairness
from bisector.posthoc import Adjustment, adjust
from bisector.posthoc.fit import balanced_weights, dealt_folds, fit_offsets
from bisector.posthoc.geometry import MOMENTS, GeometryAdjustment, Moments, fit_geometry

FIXED = (1.0, 0.20, 0.09)  # a, b, e
TAUS = tuple(tau / 10 for tau in range(21))  # of tau-normalisation
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of a refitted layer, on the square of its weights
_FOLDS = 5


class Rows(NamedTuple):
    """Rows of one part."""

    scores: Tensor  # (N, C)
    labels: Tensor  # (N,)
    embeddings: Tensor  # (N, D)

    def take(self, rows: Tensor) -> "Rows":
        """Return these rows alone."""
        return Rows(*(column[rows] for column in self))


@dataclass(frozen=True, eq=False)
class Store:
    """What a trained classifier left: scores, labels and embeddings of the three parts."""

    train: Rows
    validation: Rows
    test: Rows
    classes: int
    scale: str = "raw"  # of embeddings as the head sees them: "raw", or "unit" for directions alone

    _made: dict[Any, Any] = field(default_factory=dict, repr=False)  # what several decisions share

    @cached_property
    def counts(self) -> Tensor:
        """(C,) training rows."""
        return torch.bincount(self.train.labels, minlength=self.classes)

    def geometry(self, kappa: float = 16.0) -> ClassGeometry:
        """Return the geometry of the training rows."""
        if kappa not in self._made:
            x, y = self.train.embeddings, self.train.labels
            self._made[kappa] = ClassGeometry.fit(x, y, self.classes, scale=self.scale, kappa=kappa)
        found: ClassGeometry = self._made[kappa]
        return found

    def fitted_geometry(self, moments: Moments, count_term: bool, kappa: float) -> GeometryAdjustment:
        """Return what `fit_geometry` finds on the validation rows."""
        key = (moments, count_term, kappa)
        if (
            key not in self._made and moments == "auto"
        ):  # as `fit_geometry` chooses, which would fit all again
            each = [self.fitted_geometry(which, count_term, kappa) for which in MOMENTS[1:]]
            self._made[key] = max(each, key=lambda one: one.settings["log_loss_gain"])
        elif key not in self._made:
            given, rows = self.geometry(kappa), self.validation
            self._made[key] = fit_geometry(*rows, given, moments=moments, count_term=count_term)
        found: GeometryAdjustment = self._made[key]
        return found


def read_store(path: Path, *, validation: int | None = None) -> Store:
    """Read what `bisector embed` wrote.

    Args:
        path: of the Parquet file.
        validation: the most validation rows of a class that are used, drawn; all if None.

    Raises:
        ArgumentError: it has no scores, labels, splits or embeddings.
    """
    table = read_scores(path)
    whole = None not in (table.labels, table.splits, table.embeddings) and bool(table.head)
    require(
        whole, "store", f"{path}, where a column is missing", "what `bisector embed` writes of a classifier"
    )
    assert table.labels is not None
    assert table.embeddings is not None
    rows = Rows(table.scores, table.labels, table.embeddings.embeddings)
    train, held, test = (rows.take(table.rows_of(split)) for split in ("train", "validation", "test"))
    if validation is not None:
        shuffled = torch.randperm(len(held.labels), generator=torch.Generator().manual_seed(0))
        place = torch.empty_like(shuffled)
        for c in range(len(table.class_names)):
            own = shuffled[held.labels[shuffled] == c]
            place[own] = torch.arange(len(own))
        held = held.take((place < validation).nonzero()[:, 0])
    classes = len(table.class_names)
    head = build_head(table.head["name"], 2, classes, torch.ones(classes))
    return Store(train, held, test, classes, "raw" if head.score == "dot" else "unit")


@dataclass(frozen=True, eq=False)
class Decided:
    """What a decision made of the test rows."""

    scores: Tensor  # (N, C) logits
    numbers: Mapping[str, float] = field(default_factory=dict)  # that were fitted
    # (M, C) and (M,): such scores of other rows, to fit a temperature for the log-loss; None where it is fitted
    held: tuple[Tensor, Tensor] | None = None


def identity(store: Store) -> Decided:
    """The scores as they are."""
    return Decided(store.test.scores, {}, (store.validation.scores, store.validation.labels))


def prior(store: Store) -> Decided:
    """Less tau times the logarithm of the training frequencies, tau fitted."""
    found = adjust(
        store.validation.scores,
        store.validation.labels,
        method="prior",
        class_counts=store.counts,
        tau="fit",
    )
    return _by_offsets(store, found, {"tau": found.settings["tau"]})


def fitted(store: Store) -> Decided:
    """An offset for each class, fitted."""
    found = adjust(store.validation.scores, store.validation.labels, method="fitted")
    return _by_offsets(store, found, {"penalty": found.settings["penalty"]})


def fixed_pair(store: Store) -> Decided:
    """The geometry of the training rows with numbers that are the same for all data."""
    a, b, e = FIXED
    found = GeometryAdjustment(store.geometry(), a, b, e)
    return _by_geometry(store, found)


def geometry(
    moments: Moments = "train", *, count_term: bool = False, kappa: float = 16.0
) -> Callable[[Store], Decided]:
    """Return the decision by the geometry of the classes, its numbers fitted; see `fit_geometry`."""

    def decide(store: Store) -> Decided:
        found = store.fitted_geometry(moments, count_term, kappa)
        gain, error = (found.settings[name] for name in ("log_loss_gain", "standard_error"))
        return _by_geometry(store, found, gain=gain, error=error)

    return decide


def density(kappa: float) -> Callable[[Store], Decided]:
    """Return the choice of the class of highest density: without the network's logits, classes equally frequent."""

    def decide(store: Store) -> Decided:
        found = store.geometry(kappa)
        held, test = (found.log_density(rows.embeddings) for rows in (store.validation, store.test))
        return Decided(_known(test), {}, (_known(held), store.validation.labels))

    return decide


def nearest_mean(store: Store) -> Decided:
    """The class whose mean over the training rows is nearest, by Euclid."""
    means = class_means(_seen(store, store.train), store.train.labels, store.classes)
    held, test = (-torch.cdist(_seen(store, rows), means).square() for rows in (store.validation, store.test))
    return Decided(_known(test), {}, (_known(held), store.validation.labels))


def tau_norm(store: Store) -> Decided:
    r"""The last layer's vectors divided by :math:`|w_c|^\tau`, without its offsets; tau chosen (Kang et al. 2020).

    The layer is found again from scores and embeddings, of which it is a linear function.
    """
    weight = last_layer(_seen(store, store.train), store.train.scores)[0].float()
    lengths = torch.linalg.vector_norm(weight, dim=1)
    held, test = (_seen(store, rows) @ weight.T for rows in (store.validation, store.test))
    truth = store.validation.labels
    losses = [
        _balanced_loss(z / _temperature(z, truth), truth) for z in (held / lengths**tau for tau in TAUS)
    ]
    tau = TAUS[losses.index(min(losses))]
    return Decided(test / lengths**tau, {"tau": tau}, (held / lengths**tau, truth))


def last_layer(
    embeddings: Tensor,  # (N, D)
    scores: Tensor,  # (N, C)
) -> tuple[Tensor, Tensor]:  # (C, D), (C,)
    """Return the weights and offsets of which the scores are made, by least squares.

    >>> draw = torch.Generator().manual_seed(0)
    >>> x, weight = torch.randn(50, 3, generator=draw).double(), torch.randn(4, 3, generator=draw).double()
    >>> found, offsets = last_layer(x, x @ weight.T + torch.arange(4))
    >>> bool((found - weight).abs().max() < 1e-9), [round(value) for value in offsets.tolist()]
    (True, [0, 1, 2, 3])
    """
    x = torch.cat([embeddings.double(), torch.ones(len(embeddings), 1, dtype=torch.float64)], 1)
    # Not by the normal equations: the embeddings of a trained network are all but dependent.
    found = torch.linalg.lstsq(x, scores.double(), driver="gelsd").solution
    return found[:-1].T, found[-1]


def refitted(on: str) -> Callable[[Store], Decided]:
    """Return the decision of a last layer that is trained anew, every class weighing the same.

    On the embeddings of the "train" rows (cRT, Kang et al. 2020), of the "validation" rows or of "both": what
    held-out rows give as moments they may also give so. The penalty is chosen on validation rows that the layer has
    not seen: all for "train", each fold of five for "validation", the first of five for "both".
    """

    def decide(store: Store) -> Decided:
        (x, y), (held, truth) = (
            (_seen(store, rows), rows.labels) for rows in (store.train, store.validation)
        )
        if on == "validation":
            x, y = x[:0], y[:0]
        more = torch.zeros_like(truth, dtype=torch.bool) if on == "train" else torch.ones_like(truth) > 0
        fold = dealt_folds(truth, _FOLDS, 0)
        apart = {"train": [~more], "validation": [fold == f for f in range(_FOLDS)], "both": [fold == 0]}[on]
        scores = held.new_full((len(PENALTIES), len(fold), store.classes), math.nan)
        layer = None
        for out in apart:
            rows, layer = more & ~out, None
            for place, penalty in enumerate(PENALTIES):
                inputs, labels = torch.cat([x, held[rows]]), torch.cat([y, truth[rows]])
                layer = fit_layer(inputs, labels, store.classes, penalty, start=layer)
                scores[place, out] = held[out] @ layer[:-1] + layer[-1]
        tried = ~scores[0, :, 0].isnan()
        losses = [_balanced_loss(z[tried], truth[tried]) for z in scores]
        best = losses.index(min(losses))
        inputs, labels = torch.cat([x, held[more]]), torch.cat([y, truth[more]])
        layer = fit_layer(inputs, labels, store.classes, PENALTIES[best], start=layer)
        test = _seen(store, store.test) @ layer[:-1] + layer[-1]
        return Decided(test, {"penalty": PENALTIES[best]}, (scores[best, tried], truth[tried]))

    return decide


def fit_layer(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    classes: int,
    penalty: float,
    *,
    start: Tensor | None = None,  # (D + 1, C)
) -> Tensor:  # (D + 1, C)
    r"""Return the linear layer of least balanced cross-entropy, its offsets in the last row.

    .. math:: \min_{W, b} \sum_n w_n \,\mathrm{nll}(x_n W + b, y_n) + \tfrac{\lambda}{2} |W|^2

    with :math:`w_n = 1 / (C n_{y_n})`.

    Args:
        embeddings: (N, D).
        labels: (N,).
        classes: C.
        penalty: lambda.
        start: a layer that is near already.
    """
    x, weights = embeddings, balanced_weights(labels, classes).to(embeddings)
    layer = x.new_zeros(x.shape[1] + 1, classes) if start is None else start.clone()
    layer.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [layer],
        max_iter=200,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        nll = cross_entropy(x @ layer[:-1] + layer[-1], labels, reduction="none")
        loss = (weights * nll).sum() + penalty / 2 * layer[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    return layer.detach()


def class_means(embeddings: Tensor, labels: Tensor, classes: int) -> Tensor:  # (C, D)
    """Return the mean of each class; NaN of one without rows."""
    sums = torch.zeros(classes, embeddings.shape[1], dtype=embeddings.dtype).index_add(0, labels, embeddings)
    return sums / torch.bincount(labels, minlength=classes)[:, None]


DECISIONS: Mapping[str, Callable[[Store], Decided]] = {
    "identity": identity,
    "prior": prior,
    "fitted": fitted,
    "fixed-pair": fixed_pair,
    **{
        f"geometry:{moments}{'+t' * term}": geometry(moments, count_term=term)
        for term in (False, True)
        for moments in ("train", "held-out", "both", "auto")
    },
    "geometry:train, pooled": geometry("train", kappa=math.inf),
    "nearest-mean": nearest_mean,
    "lda": density(math.inf),
    "qda": density(16.0),
    "tau-norm": tau_norm,
    "refit:train": refitted("train"),
    "refit:validation": refitted("validation"),
    "refit:both": refitted("both"),
}
"""Every decision by the name that the table of results has for it."""

EXPLORED: Mapping[str, Callable[[Store], Decided]] = {
    f"geometry:{moments}, kappa={kappa:g}": geometry(moments, kappa=kappa)
    for kappa in (4.0, 64.0, 256.0)
    for moments in ("train", "held-out", "both")
}
"""Further ones, for exploratory seeds alone."""


def measured(store: Store, found: Decided) -> dict[str, float]:
    """Return what a decision reaches on the test rows: accuracies in percent, bias in pp^2, log-loss in nats.

    few: the third of the classes with fewest training rows; harmonic: the harmonic mean of the accuracies of the
    classes, 0 if one is; log_loss: balanced, with a temperature fitted on validation rows.
    """
    labels = store.test.labels
    predictions = found.scores.argmax(1)
    told = fairness(predictions, labels, store.classes, store.counts)
    by_class = class_accuracy(predictions, labels, store.classes)
    by_class = by_class[~by_class.isnan()]
    temperature = 1.0 if found.held is None else _temperature(*found.held)
    percent = {name: 100 * told[name] for name in ("balanced_accuracy", "accuracy", "few", "worst_class")}
    return {
        **percent,
        "harmonic": 100 * len(by_class) / float((1 / by_class).sum()),
        "bias": told["bias"],
        "log_loss": _balanced_loss(found.scores.double() / temperature, labels),
    }


def _by_offsets(store: Store, found: Adjustment, numbers: Mapping[str, float]) -> Decided:
    return Decided(found.apply(store.test.scores), numbers)


def _by_geometry(store: Store, found: GeometryAdjustment, **numbers: float) -> Decided:
    told = {**{name: getattr(found, name) for name in "abet"}, **numbers}
    test, held = found.apply(store.test.scores, store.test.embeddings), None
    if not numbers or found.is_identity:  # not fitted
        rows = store.validation
        held = found.apply(rows.scores, rows.embeddings), rows.labels
    return Decided(test, told, held)


def _seen(store: Store, rows: Rows) -> Tensor:
    """Return the embeddings as the head sees them."""
    return on_scale(rows.embeddings, store.scale)


def _known(scores: Tensor) -> Tensor:
    """Return the scores with those of classes without rows below all others."""
    return scores.nan_to_num(nan=float(scores[~scores.isnan()].min()) - 1)


def _temperature(scores: Tensor, labels: Tensor) -> float:
    return fit_offsets(
        scores, labels, directions=torch.zeros(scores.shape[1], 1, dtype=torch.float64)
    ).temperature


def _balanced_loss(logits: Tensor, labels: Tensor) -> float:
    nll = cross_entropy(logits.double(), labels, reduction="none")
    return float((balanced_weights(labels, logits.shape[1]) * nll).sum())
