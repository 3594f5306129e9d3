"""What the amounts, the counts and the geometry of the classes say of a score: the statistics of every score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bisector.measurement.class_scores import ClassScores
from bisector.measurement.classes import ClassMeasure, fewest_rows
from bisector.metrics.bias import bias, bias_corrected
from bisector.statistics.regression import NestedRegression, nested_regression
from bisector.statistics.relation import Relation, relate

AMOUNT, COUNT, EQUAL = "amount", "log count", "equal amount"
NEAREST, DIMENSION = "distance to the nearest class", "intrinsic dimension"


@dataclass(frozen=True)
class Relationship:
    """How one quantity of the classes goes with a score.

    Args:
        quantity: `"amount"`, `"log count"`, `"equal amount"`, `"distance to the nearest class"`, squared, or
            `"intrinsic dimension"`.
        given: what its partial correlation holds fixed.
        relation: the correlations.
        adds: what the quantity explains beyond the one held fixed.
    """

    quantity: str
    given: str
    relation: Relation
    adds: NestedRegression


@dataclass(frozen=True)
class ScoreMeasure:
    """One score of the classes, and what goes with it. What cannot be said is NaN.

    Args:
        name: of the score.
        source: the rows or the file it comes from.
        percent: whether it is a fraction that is shown in percent.
        values: (C,), NaN of a class that has none.
        relationships: with each quantity that is known of three classes or more.
        bias: variance over the classes, in percentage points squared, or in the square of the score's unit.
        bias_corrected: of an accuracy, the same without what few tested rows bring by chance; else NaN.
        classes: that have an amount and the score.
        small: names of those of them that are too small for their amount to say much.
        fewest: rows that this takes.
        brought: whether the user brought it, which the accuracy of predictions is not.
    """

    name: str
    source: str
    percent: bool
    values: list[float]
    relationships: list[Relationship]
    bias: float
    bias_corrected: float
    classes: int
    small: list[str] = field(default_factory=list)
    fewest: int = 0
    brought: bool = False

    def of(self, quantity: str) -> Relationship | None:
        """The relationship with a quantity; None if it is not known of at least 3 classes."""
        return next((one for one in self.relationships if one.quantity == quantity), None)


def accuracy_of(scores: Sequence[ScoreMeasure]) -> ScoreMeasure | None:
    """The accuracy of the predictions among the scores; None where there are no predictions."""
    return next((one for one in scores if not one.brought), None)


def measure_scores(
    classes: Sequence[ClassMeasure],
    scores: Sequence[ClassScores] = (),
    *,
    dimensions: int,
    tested_on: str = "",
    resamples: int = 10_000,
    seed: int = 0,
) -> list[ScoreMeasure]:
    """Relate accuracy, where classes have one, and every score that was brought to what was measured of them.

    The classes are what varies: intervals are over classes drawn again. Only classes with rows take part.

    Args:
        classes: in the order of the labels.
        scores: of as many classes.
        dimensions: of the embeddings; it decides which classes are too small.
        tested_on: the rows that accuracy is measured on.
        resamples: for the intervals.
        seed: of the resamples.

    Raises:
        MissingExtraError: without scipy.

    >>> classes = [ClassMeasure(str(k), 20 + k, 10, 9.0 - k, k / 9, 0.0) for k in range(9)]
    >>> accuracy, = measure_scores(classes, dimensions=8, tested_on="test rows")
    >>> round(accuracy.of("amount").relation.pearson.value, 6), accuracy.classes, accuracy.small
    (-1.0, 9, [])
    """
    found = []
    own = [one.accuracy for one in classes]
    if any(math.isfinite(value) for value in own):
        corrected = bias_corrected(_column(own), torch.tensor([one.tested for one in classes])).item()
        accuracy = ClassScores("accuracy", tested_on, own, percent=True)
        found.append(_measure(classes, accuracy, corrected, dimensions, resamples, seed, brought=False))
    brought = (
        _measure(classes, score, math.nan, dimensions, resamples, seed, brought=True) for score in scores
    )
    return [*found, *brought]


def _measure(
    classes: Sequence[ClassMeasure],
    score: ClassScores,
    corrected: float,
    dimensions: int,
    resamples: int,
    seed: int,
    *,
    brought: bool,
) -> ScoreMeasure:
    values = _column(score.values)
    count = _column([math.log(one.count) if one.count else math.nan for one in classes])
    amount = _column([one.amount for one in classes])
    equal = _column([one.equal_amount for one in classes])
    distance = _column([one.squared_distance for one in classes])
    dimension = _column([one.intrinsic_dimension for one in classes])
    told = not bool(amount.isnan().all())  # without embeddings there are no amounts: nothing to hold fixed
    pairs = (
        (AMOUNT, amount, COUNT, count),
        (COUNT, count, AMOUNT if told else "", amount if told else torch.zeros_like(amount)),
        (EQUAL, equal, COUNT, count),
        (NEAREST, distance, COUNT, count),
        (DIMENSION, dimension, COUNT, count),
    )
    related = [
        Relationship(
            quantity,
            given,
            relate(of, values, fixed, resamples=resamples, seed=seed),
            nested_regression(values, fixed, of),
        )
        for quantity, of, given, fixed in pairs
    ]
    known = (~((amount if told else 0) + values + count).isnan()).tolist()
    fewest = fewest_rows(dimensions)
    return ScoreMeasure(
        name=score.name,
        source=score.source,
        percent=score.percent,
        values=list(score.values),
        relationships=[one for one in related if one.relation.rows > 2],
        bias=_variance(values, score.percent),
        bias_corrected=corrected,
        classes=sum(known),
        small=[
            one.name
            for one, there in zip(classes, known, strict=True)
            if told and there and one.count < fewest
        ],
        fewest=fewest,
        brought=brought,
    )


def _variance(values: Tensor, percent: bool) -> float:
    if percent:
        return bias(values).item()
    known = values[~values.isnan()]
    return known.var(correction=0).item() if len(known) else math.nan


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
