"""By how much each head differs from the baseline, seed by seed: as text, as CSV, and in figures."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from bisector.metrics.summary import METRICS, MetricInfo
from bisector.report.comparison_figures import class_axis
from bisector.report.parts import FAINT, INK, MARGIN, Figure, Json, axis, scatter
from bisector.report.summary import LEVEL, summary_rows
from bisector.report.table import Cell, Column, Table, name_width, write_records
from bisector.report.words import head_label, number, plot_text, shorten
from bisector.statistics.paired import PairedDifference
from bisector.training.results import Comparison

DIFFERENCE_METRICS = ("balanced_accuracy", "few", "worst_class", "spread")
GAINS = "What the decisions change"
_FEW_SEEDS = 5
_BETTER = {"higher": "above 0 is better", "lower": "below 0 is better", "": ""}

Differences: TypeAlias = Mapping[str, Mapping[str, PairedDifference]]
"""Of each head, by the key of the metric, in the metric's own unit (accuracies 0 to 1)."""


def differences_of(comparison: Comparison) -> Differences:
    """Every head less the baseline, in their order, paired by the seed.

    Seeds in which either head lacks the metric do not count for it; a head without any number is left out.
    """
    baseline = comparison.baseline_head
    return _less(comparison, {head: baseline for head in comparison.heads if head != baseline})


def decision_gains(comparison: Comparison) -> Differences:
    """Every head with a decision less the same head without it; nothing that `differences_of` says already."""
    pairs = comparison.decided_heads
    told = differences_of(comparison).keys() == pairs.keys()
    return {} if told and set(pairs.values()) == {comparison.baseline_head} else _less(comparison, pairs)


def _less(comparison: Comparison, pairs: Mapping[str, str]) -> Differences:
    """Each head less the other, paired by the seed."""
    rows = {row.head: row for row in summary_rows(comparison)}
    found = {
        head: {key: rows[head].minus(rows[base], key) for key in DIFFERENCE_METRICS}
        for head, base in pairs.items()
        if head in rows and base in rows
    }
    return {head: own for head, own in found.items() if any(one.pairs for one in own.values())}


def metrics_of(found: Differences) -> list[MetricInfo]:
    """The metrics in which any head differs by a number, in the order of all metrics."""
    known = {key for own in found.values() for key, one in own.items() if one.pairs}
    return [info for info in METRICS if info.key in known]


def _unit(info: MetricInfo) -> str:
    return "pp" if info.unit == "%" else info.unit


def format_difference(info: MetricInfo, found: PairedDifference) -> tuple[str, str]:
    """The mean with its sign, and the interval in brackets, empty where there is none.

    >>> format_difference(METRICS[0], PairedDifference(0.0123, -0.004, 0.0286, 3))
    ('+1.2', '[−0.4, +2.9]')
    """
    # Adding zero turns a negative zero into a positive one.
    mean, low, high = (number(round(info.scale * value, 1) + 0.0, sign="+") for value in found[:3])
    return mean, f"[{low}, {high}]" if math.isfinite(found.low) else ""


def difference_notes(found: Differences, baseline: str) -> list[str]:
    """What a reader must know of these numbers, a sentence each.

    Args:
        found: the differences.
        baseline: what each head is compared with; the same head without its decision if empty.
    """
    counted = [one for own in found.values() for one in own.values() if one.pairs]
    pairs = max((one.pairs for one in counted), default=0)
    paired = (
        f"Each head less {baseline}, seed by seed: within a seed both get the same data in the same order."
        if baseline
        else "Each head with its decision less the same networks without it, seed by seed."
    )
    if pairs < 2:
        return [paired, "One seed: no intervals can be given, and how much chance there is cannot be told."]
    wide = f"; with {pairs} seeds they are wide" if pairs <= _FEW_SEEDS else ""
    several = (
        f"{len(counted)} differences are shown, and none is corrected for that: where nothing differs, about one "
        "such interval in twenty misses 0 by chance."
    )
    return [
        paired,
        f"Means over {pairs} seeds with {LEVEL:.0%} intervals (Student's t).",
        "The intervals tell the spread of training and of the drawn split and long tail, not that of another "
        f"test set{wide}.",
        *([several] if len(counted) > 1 else []),
    ]


def difference_table(found: Differences) -> Table:
    """One row a head, one column a metric: the mean differences and their intervals, these in line."""
    infos = metrics_of(found)
    columns = [Column(info.label, unit=_unit(info), better=info.better) for info in infos]
    labels = [head_label(head) for head in found]
    cells: list[list[Cell | str]] = [[*labels]]
    for info in infos:
        shown = [format_difference(info, own[info.key]) for own in found.values()]
        room = max(len(interval) for _, interval in shown)
        cells.append([Cell(mean, spread=interval and interval.rjust(room)) for mean, interval in shown])
    return Table([Column("Head", "name", width=name_width(labels)), *columns], zip(*cells, strict=True))


def difference_figures(found: Differences, kind: str = "difference") -> list[Figure]:
    """For each metric a line a head: the mean difference as a point and its interval, with zero marked."""
    return [_intervals(found, info, kind) for info in metrics_of(found)]


def _intervals(found: Differences, info: MetricInfo, kind: str) -> Figure:
    known = [(i, own[info.key]) for i, own in enumerate(found.values()) if own[info.key].pairs]
    intervals = any(one.pairs > 1 for _, one in known)
    labels = [plot_text(head_label(head), 30) for head in found]
    points = scatter(
        "markers",
        [info.scale * one.mean for _, one in known],
        [i for i, _ in known],
        error_x={
            "type": "data",
            "array": [info.scale * (one.high - one.mean) for _, one in known],
            "visible": intervals,
            "color": INK,
            "thickness": 1.5,
            "width": 4,
        },
        text=[" ".join(format_difference(info, one)).strip() for _, one in known],
        hovertext=[labels[i] for i, _ in known],
        hovertemplate=f"%{{hovertext}}<br>%{{text}} {_unit(info)}<extra></extra>",
        marker={
            "color": INK,
            "size": 8,
            "symbol": ["circle" if one.clear else "circle-open" for _, one in known],
        },
    )
    zero: dict[str, Json] = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
    zero |= {"line": {"color": FAINT, "width": 1.5}, "layer": "below"}
    span: Json = [len(labels) - 0.4, -0.6]
    return Figure(
        f"{kind}-{info.key.replace('_', '-')}",
        title=f"{info.label}, {_unit(info)}",
        description=f"{info.label}: a point for each head at its mean difference"
        + (", with its interval as a line." if intervals else "."),
        data=[points],
        layout={
            "xaxis": axis(
                f"{_unit(info)}; {_BETTER[info.better]}", nticks=7, autorangeoptions={"include": 0}
            ),
            "yaxis": {**class_axis(labels), "tickvals": list(range(len(labels))), "range": span},
            "shapes": [zero],
            "margin": {**MARGIN, "r": 16},
        },
        height=70 + 26 * len(found),
    )


def format_differences(comparison: Comparison, width: int = 160) -> str:
    """The differences as plain text for a terminal; empty where nothing is compared."""
    baseline = head_label(comparison.baseline_head)
    title = f"Differences from {shorten(baseline, width - len('Differences from '))}"
    parts = [(title, differences_of(comparison), baseline), (GAINS, decision_gains(comparison), "")]
    return "\n\n".join(
        text
        for title, found, base in parts
        if found
        for text in (
            title,
            difference_table(found).text(width).replace("−", "-"),
            textwrap.fill(" ".join(difference_notes(found, base)), width),
        )
    )


def write_differences_csv(comparison: Comparison, path: Path) -> None:
    """Write one row a head and metric: the mean difference and its interval, in the metric's own unit.

    Those from the baseline come first, then those of heads with a decision from the same heads without it.
    Accuracies are fractions, 0 to 1. A cell is empty where there is no number.
    """
    headings = ["head", "baseline", "metric", "difference", "low", "high", "level", "seeds"]
    pairs = comparison.decided_heads
    less = [(head, comparison.baseline_head, own) for head, own in differences_of(comparison).items()]
    less += [(head, pairs[head], own) for head, own in decision_gains(comparison).items()]
    rows = (
        [head, base, key, *one[:3], LEVEL, one.pairs] for head, base, own in less for key, one in own.items()
    )
    write_records(path, headings, rows)
