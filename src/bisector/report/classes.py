"""How the classes of a comparison are ordered and named in the figures."""

import math
import statistics
from collections.abc import Sequence

from bisector.report.figure import Json
from bisector.report.names import plot_text
from bisector.training.results import Comparison, Run

MOST_NAMES = 30
"""More class names than this cannot be read on an axis."""


def by_count(counts: Sequence[float]) -> list[int]:
    """The classes from the largest number to the smallest; equal ones by index, NaN last.

    >>> by_count([5, 90, float("nan"), 5])
    [1, 0, 3, 2]
    """
    return sorted(range(len(counts)), key=lambda c: math.inf if math.isnan(counts[c]) else -counts[c])


def counts_of(run: Run, comparison: Comparison) -> Sequence[int]:
    """The training counts of a run; those of the comparison where the run does not say."""
    return run.class_count or comparison.train_counts


def profile(comparison: Comparison) -> list[float]:
    """The training counts from the commonest class to the rarest, the mean of the runs at each rank."""
    ranked = [sorted(counts_of(run, comparison), reverse=True) for run in comparison.runs]
    return [statistics.fmean(counts) for counts in zip(*ranked, strict=True)]


def reshuffled(comparison: Comparison) -> bool:
    """Whether the runs differ in which classes are common: then a rank by count is not one class."""
    return len({tuple(by_count(counts_of(run, comparison))) for run in comparison.runs}) > 1


def first_runs(comparison: Comparison) -> list[Run]:
    """The first run of each head."""
    return [next(run for run in comparison.runs if run.head == head) for head in comparison.heads]


def class_name(comparison: Comparison, label: int, limit: int = 60) -> str:
    """The name of a class, safe in any text of a figure."""
    return plot_text(comparison.class_names[label], limit)


def class_axis(names: Sequence[str], title: str = "") -> dict[str, Json]:
    """An axis with one position a class. The positions are numbers: two classes may have one name."""
    return {
        "title": {"text": title, "standoff": 8},
        "tickvals": list(range(len(names))) if len(names) <= MOST_NAMES else [],
        "ticktext": names,
        "tickfont": {"size": 11},
        "autotickangles": [0, -45, -90],
        "showgrid": False,
        "zeroline": False,
    }
