"""By how much each head differs from the baseline, seed by seed: the numbers, as text and as CSV."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bisector.metrics.summary import METRICS, MetricInfo
from bisector.report.names import head_label, shorten
from bisector.report.summary import LEVEL, paired, summary_rows
from bisector.report.table import Cell, Column, Table, write_records
from bisector.statistics.paired import PairedDifference
from bisector.training.results import Comparison

DIFFERENCE_METRICS = ("balanced_accuracy", "few", "worst_class", "bias")
_FEW_SEEDS = 5


@dataclass(frozen=True)
class DifferenceRow:
    """One head less the baseline, by the key of the metric, in the metric's own unit (accuracies 0 to 1)."""

    head: str
    label: str
    differences: dict[str, PairedDifference]


def difference_rows(comparison: Comparison) -> list[DifferenceRow]:
    """One row for every head but the baseline, in their order, paired by the seed.

    Seeds in which either head lacks the metric do not count for it; there is no row for a head without any number.
    """
    by_head = {row.head: row for row in summary_rows(comparison)}
    rows = []
    for head, row in by_head.items():
        base = by_head[comparison.baseline_head]
        found = {key: paired(row.values[key], base.values[key]) for key in DIFFERENCE_METRICS}
        if row is not base and any(found[key].pairs for key in found):
            rows.append(DifferenceRow(head, row.label, found))
    return rows


def difference_metrics(rows: Sequence[DifferenceRow]) -> list[MetricInfo]:
    """The metrics in which any head differs by a number, in the order of all metrics."""
    return [
        info
        for info in METRICS
        if any(info.key in r.differences and r.differences[info.key].pairs for r in rows)
    ]


def difference_unit(info: MetricInfo) -> str:
    """Of a difference: percentage points where the metric is in percent."""
    return "pp" if info.unit == "%" else info.unit


def format_difference(info: MetricInfo, found: PairedDifference) -> tuple[str, str]:
    """The mean with its sign, and the interval in brackets, empty where there is none.

    >>> format_difference(METRICS[0], PairedDifference(0.0123, -0.004, 0.0286, 3))
    ('+1.2', '[-0.4, +2.9]')
    """
    if not found.pairs:
        return "–", ""
    # Adding zero turns a negative zero into a positive one.
    mean, low, high = (f"{round(info.scale * value, 1) + 0.0:+.1f}" for value in found[:3])
    return mean, f"[{low}, {high}]" if math.isfinite(found.low) else ""


def difference_notes(rows: Sequence[DifferenceRow], baseline: str) -> list[str]:
    """What a reader must know of these numbers, a sentence each.

    Args:
        rows: of the heads.
        baseline: its label.
    """
    counted = [found for row in rows for found in row.differences.values() if found.pairs]
    pairs = max((found.pairs for found in counted), default=0)
    paired = (
        f"Each head less {baseline}, seed by seed: within a seed both get the same data in the same order."
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


def difference_table(rows: Sequence[DifferenceRow], minus: str = "−") -> Table:
    """One row a head, one column a metric: the mean differences and their intervals, these in line.

    Args:
        rows: of the heads.
        minus: the sign.
    """
    infos = difference_metrics(rows)
    columns = [Column(info.label, unit=difference_unit(info), better=info.better) for info in infos]
    shown = [[format_difference(info, row.differences[info.key]) for row in rows] for info in infos]
    cells = []
    for column in shown:
        room = max(len(interval) for _, interval in column)
        spreads = (interval and interval.rjust(room) for _, interval in column)
        texts = ((mean, spread) for (mean, _), spread in zip(column, spreads, strict=True))
        cells.append([Cell(m.replace("-", minus), spread=s.replace("-", minus)) for m, s in texts])
    labelled = zip((row.label for row in rows), *cells, strict=True)
    return Table([Column("Head", "name"), *columns], labelled)


def format_differences(comparison: Comparison, width: int = 160) -> str:
    """The differences as plain text for a terminal; empty where nothing is compared.

    Args:
        comparison: what was compared.
        width: columns of the terminal, at least 60.
    """
    rows = difference_rows(comparison)
    if not rows:
        return ""
    baseline = head_label(comparison.baseline_head)
    title = f"Differences from {shorten(baseline, width - len('Differences from '))}"
    notes = textwrap.fill(" ".join(difference_notes(rows, baseline)), width)
    return "\n\n".join([title, difference_table(rows, "-").text(width), notes])


def write_differences_csv(comparison: Comparison, path: Path) -> None:
    """Write one row a head and metric: the mean difference and its interval, in the metric's own unit.

    Accuracies are fractions, 0 to 1. A cell is empty where there is no number.
    """
    headings = ["head", "baseline", "metric", "difference", "low", "high", "level", "seeds"]
    rows = (
        [row.head, comparison.baseline_head, key, *found[:3], LEVEL, found.pairs]
        for row in difference_rows(comparison)
        for key, found in row.differences.items()
    )
    write_records(path, headings, rows)
