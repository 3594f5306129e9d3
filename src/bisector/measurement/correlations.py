"""Whether the amount of a class, or its count, says how accurate it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bisector.errors import missing_extra
from bisector.measurement.classes import ClassMeasure
from bisector.statistics.correlation import partial_correlation, pearson


@dataclass(frozen=True)
class Correlations:
    """Pearson's correlations over the classes; counts by their logarithm. NaN where too few classes are known.

    Args:
        classes: how many have an amount, a count and an accuracy.
        chance: beyond this, up or down, the plain correlation of two unrelated normal quantities goes in one case
            of twenty: `t / sqrt(t^2 + n - 2)`, t the 97.5th percentile of Student's distribution with n - 2 degrees
            of freedom. NaN with fewer than 3 classes.
        chance_partial: the same with one quantity held fixed, which costs a degree of freedom: n - 3.
        amount_accuracy: of amount and accuracy.
        count_accuracy: of log count and accuracy.
        amount_count: of amount and log count.
        amount_accuracy_given_count: of amount and accuracy, log count held fixed.
        count_accuracy_given_amount: of log count and accuracy, amount held fixed.
    """

    classes: int
    chance: float
    chance_partial: float
    amount_accuracy: float
    count_accuracy: float
    amount_count: float
    amount_accuracy_given_count: float
    count_accuracy_given_amount: float


def correlate(classes: Sequence[ClassMeasure]) -> Correlations:
    """Correlate over the classes that have rows.

    Raises:
        MissingExtraError: without scipy.

    >>> classes = [ClassMeasure(str(k), 10, 10, 9.0 - k, k / 9, 0.0) for k in range(9)]
    >>> found = correlate(classes)
    >>> round(found.amount_accuracy, 6), round(found.chance, 3), found.count_accuracy
    (-1.0, 0.666, nan)
    """
    rows = [one for one in classes if one.count]
    amount = torch.tensor([one.amount for one in rows], dtype=torch.float64)
    count = torch.tensor([math.log(one.count) for one in rows], dtype=torch.float64)
    accuracy = torch.tensor([one.accuracy for one in rows], dtype=torch.float64)
    known = int((~(amount + count + accuracy).isnan()).sum())
    return Correlations(
        classes=known,
        chance=_chance(known - 2),
        chance_partial=_chance(known - 3),
        amount_accuracy=pearson(amount, accuracy).item(),
        count_accuracy=pearson(count, accuracy).item(),
        amount_count=pearson(amount, count).item(),
        amount_accuracy_given_count=partial_correlation(amount, accuracy, count).item(),
        count_accuracy_given_amount=partial_correlation(count, accuracy, amount).item(),
    )


def _chance(freedom: int) -> float:
    """The limit of a correlation with so many degrees of freedom."""
    try:
        from scipy.special import stdtrit
    except ImportError:
        raise missing_extra("scipy", "measure") from None
    if freedom < 1:
        return math.nan
    t = float(stdtrit(freedom, 0.975))
    return t / math.sqrt(t * t + freedom)
