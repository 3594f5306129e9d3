"""The decisions that `benchmarks.decisions` compares: what may be done to the scores of a trained classifier.

Each is a function of a `Store`. What it fits it fits on training and validation rows; its scores are of test rows.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.tables.scores import read_scores
from bisector.errors import require
from bisector.heads import build_head
from bisector.information.geometry import ClassGeometry
from bisector.metrics.summary import fairness
from bisector.posthoc import BaseAdjustment, GeometryAdjustment, adjust, fit_geometry
from bisector.posthoc.fit import balanced_weights, fit_offsets
from bisector.posthoc.geometry_fit import Moments

FIXED = (1.0, 0.20, 0.09)  # a, b, e
NEAREST = 32  # classes of a row that the geometry looks at, as `adjust` does
METRICS = ("balanced_accuracy", "accuracy", "few", "worst_class", "harmonic_mean", "bias", "log_loss")


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

    def geometry(self) -> ClassGeometry:
        """Return the geometry of the training rows."""
        if "geometry" not in self._made:
            x, y = self.train.embeddings, self.train.labels
            self._made["geometry"] = ClassGeometry.fit(x, y, self.classes, scale=self.scale)
        found: ClassGeometry = self._made["geometry"]
        return found


def read_store(path: Path, *, validation: int | None = None) -> Store:
    """Read what `bisector embed` wrote.

    Args:
        path: of the Parquet file.
        validation: the most validation rows of a class that are used, drawn; all if None.

    Raises:
        ArgumentError: it has no scores, labels, splits, embeddings or head.
    """
    table = read_scores(path)
    whole = None not in (table.labels, table.splits, table.embeddings) and bool(table.head)
    require(
        whole, "store", f"{path}, where a column is missing", "what `bisector embed` writes of a classifier"
    )
    assert table.labels is not None
    assert table.embeddings is not None
    classes = len(table.class_names)
    rows = Rows(table.scores, table.labels, table.embeddings.embeddings)
    train, held, test = (rows.take(table.rows_of(split)) for split in ("train", "validation", "test"))
    if validation is not None:
        shuffled = torch.randperm(len(held.labels), generator=torch.Generator().manual_seed(0))
        place = torch.empty_like(shuffled)
        for c in range(classes):
            own = shuffled[held.labels[shuffled] == c]
            place[own] = torch.arange(len(own))
        held = held.take((place < validation).nonzero()[:, 0])
    head = build_head(table.head["name"], 2, classes, torch.ones(classes))
    return Store(train, held, test, classes, "raw" if head.score == "dot" else "unit")


@dataclass(frozen=True, eq=False)
class Decided:
    """What a decision made of the rows."""

    scores: Tensor  # (N, C) logits of the test rows
    numbers: Mapping[str, float] = field(default_factory=dict)  # that were fitted
    # (M, C) logits of the validation rows, to fit a temperature for the log-loss; None where one is fitted already,
    # or where these rows were learned so well that they would tell a wrong one
    held: Tensor | None = None


Decision = Callable[[Store], Decided]


def identity(store: Store) -> Decided:
    """The scores as they are."""
    return Decided(store.test.scores, {}, store.validation.scores)


def adjusted(*shown: str, held: bool = False, **options: Any) -> Decision:
    """Return the decision of `bisector.posthoc.adjust`.

    Args:
        shown: the settings that are noted.
        held: whether the scores need a temperature.
        options: of `adjust`; it is given the rows, the counts and the geometry of the training rows, too.
    """

    def decide(store: Store) -> Decided:
        rows, given = store.validation, {"class_counts": store.counts, "geometry": store.geometry()}
        if options["method"] == "refit":
            given["train"] = (store.train.embeddings, store.train.labels)
        how = {"embeddings": rows.embeddings, "scale": store.scale, **given, **options}
        found = adjust(rows.scores, rows.labels, **how)
        return _decided(store, found, {name: found.settings[name] for name in shown}, held)

    return decide


def fixed_pair(store: Store) -> Decided:
    """The geometry of the training rows with numbers that are the same for all data."""
    return _decided(store, GeometryAdjustment(store.geometry(), *FIXED, k=NEAREST), _numbers(*FIXED), True)


def geometry(moments: Moments, *, layer: bool | Literal["auto"] = False, **options: Any) -> Decision:
    """Return the decision by the geometry of the classes, its numbers fitted.

    Args:
        moments: see `fit_geometry`.
        layer: see `fit_geometry`.
        options: further ones of it.
    """

    def decide(store: Store) -> Decided:
        how = {"moments": moments, "layer": layer, "k": NEAREST, **options}
        found = fit_geometry(*store.validation, store.geometry(), **how)
        gain, error = (found.settings[name] for name in ("log_loss_gain", "standard_error"))
        numbers = {**_numbers(found.a, found.b, found.e, found.t, found.r), "gain": gain, "error": error}
        return _decided(store, found, numbers, found.is_identity)

    return decide


def density(store: Store) -> Decided:
    """The class of highest density: without the network's logits, classes equally frequent."""
    found = store.geometry()
    test, held = (found.log_density(rows.embeddings) for rows in (store.test, store.validation))
    least = float(test[~test.isnan()].min())  # a class without rows is never chosen
    return Decided(test.nan_to_num(least - 1), {}, held.nan_to_num(least - 1))


_PARTS: tuple[Moments, ...] = ("train", "held-out", "both")

DECISIONS: Mapping[str, Decision] = {
    "identity": identity,
    "prior": adjusted("tau", method="prior", tau="fit"),
    "fitted": adjusted("penalty", method="fitted"),
    "fixed-pair": fixed_pair,
    **{f"geometry:{moments}+t": geometry(moments) for moments in _PARTS},
    "geometry:both+t+layer": geometry("both", layer="auto"),
    "nearest-mean": adjusted(method="nearest-mean", held=True),
    "lda": adjusted(method="lda", held=True),
    "tau-norm": adjusted("tau", method="tau-norm", held=True),
    **{f"refit:{part}": adjusted("penalty", method="refit", moments=part) for part in ("held-out", "both")},
    "auto": adjusted(method="auto"),
}
"""Every decision by the name that the table of results has for it."""

EXPLORED: Mapping[str, Decision] = {
    **{f"geometry:{part}": geometry(part, count_term=False) for part in _PARTS},
    "geometry:both+t:ungated": geometry("both", least=-math.inf),
    **{
        f"geometry:both+t:kappa={kappa:g}": geometry("both", kappa=kappa) for kappa in (16.0, 256.0, math.inf)
    },
    "density": density,
    "refit:train": adjusted("penalty", method="refit", moments="train"),
}
"""Further ones: what a part of the geometry is worth."""


def measured(store: Store, found: Decided) -> dict[str, float]:
    """Return `METRICS` on the test rows: accuracies in percent, bias in pp^2, the balanced log-loss in nats."""
    labels = store.test.labels
    told = fairness(found.scores.argmax(1), labels, store.classes, store.counts)
    temperature = 1.0
    if found.held is not None:
        nothing = torch.zeros(store.classes, 1, dtype=torch.float64)
        temperature = fit_offsets(found.held, store.validation.labels, directions=nothing).temperature
    nll = cross_entropy(found.scores.double() / temperature, labels, reduction="none")
    log_loss = float((balanced_weights(labels, store.classes) * nll).sum())
    percent = {name: 100 * told[name] for name in METRICS[:-2]}
    return {**percent, "bias": told["bias"], "log_loss": log_loss}


def _decided(store: Store, found: BaseAdjustment, numbers: Mapping[str, float], held: bool) -> Decided:
    test, rows = store.test, store.validation
    scores = found.apply(test.scores, test.embeddings)
    return Decided(scores, numbers, found.apply(rows.scores, rows.embeddings) if held else None)


def _numbers(a: float, b: float, e: float, t: float = 0.0, r: float = 0.0) -> dict[str, float]:
    return {"a": a, "b": b, "e": e, "t": t, "r": r}
