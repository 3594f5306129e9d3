"""What is said of a score in sentences, on the page and in a terminal."""

import math

from bisector.measurement.score_measures import AMOUNT, EQUAL, ScoreMeasure
from bisector.report.measurement_numbers import count, number
from bisector.statistics.regression import NestedRegression


def titled(score: ScoreMeasure) -> str:
    """The score and where it comes from.

    >>> titled(ScoreMeasure("AP", "ap.csv", True, [], [], 0.0, 0.0, 0))
    'AP (ap.csv)'
    """
    return f"{score.name} ({score.source})" if score.source else score.name


def sentences(score: ScoreMeasure) -> list[str]:
    """What the tables of correlations leave to say, each in a sentence: empty where there is nothing."""
    return [*(_adds(score, quantity) for quantity in (AMOUNT, EQUAL)), _small(score), _bias(score)]


def _adds(score: ScoreMeasure, quantity: str) -> str:
    one = score.of(quantity)
    if one is None or math.isnan(one.adds.gain):
        return ""
    adds, name = one.adds, f"the {quantity}"
    return (
        f"Over {count(adds.rows, 'class')}, log count alone explains {100 * adds.r2_base:.1f} % of the variance of "
        f"{score.name}, with {name} {100 * adds.r2_full:.1f} %: {100 * adds.gain:.1f} points more "
        f"(F = {_significant(adds.f)}, {chance_of(adds)})."
    )


def chance_of(adds: NestedRegression) -> str:
    """The p value in words.

    >>> chance_of(NestedRegression(9, 0.1, 0.2, 4.0, 0.0312)), chance_of(NestedRegression(9, 0.1, 0.9, 90.0, 1e-9))
    ('p = 0.031', 'p < 0.001')
    """
    if math.isnan(adds.p):
        return "p not known"
    return "p < 0.001" if adds.p < 0.001 else f"p = {adds.p:#.2g}"


def _significant(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}"


def _bias(score: ScoreMeasure) -> str:
    if math.isnan(score.bias):
        return ""
    unit = "percentage points squared" if score.percent else "in its own unit squared"
    told = f"Bias, the variance of {score.name} over the classes: {_plain(score.bias)} ({unit})"
    if math.isfinite(score.bias_corrected):
        told += f"; {_plain(score.bias_corrected)} without what few tested rows bring by chance"
    return f"{told}."


def _plain(value: float) -> str:
    return number(value) if abs(value) >= 0.1 else f"{value:.2g}".replace("-", "−")


def _small(score: ScoreMeasure) -> str:
    if not score.small:
        return ""
    are = "is" if len(score.small) == 1 else "are"
    small, share = len(score.small), 100 * len(score.small) / score.classes
    return (
        f"{small:,} of these {score.classes:,} classes ({share:.0f} %) {are} too small for an amount to mean much: "
        f"fewer than {score.fewest} rows."
    )
