"""Heads side by side: means over the seeds, which is best, which share the lead, how two differ."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from bisector.metrics.summary import METRICS, MetricInfo
from bisector.report.parts import Tile
from bisector.report.table import Cell, Column, Table
from bisector.report.words import head_label, head_summary, number
from bisector.statistics.paired import PairedDifference, paired_difference
from bisector.training.results import Comparison

LEVEL = 0.95  # of the intervals of differences


@dataclass(frozen=True)
class SummaryRow:
    """One head: mean and sample standard deviation of every metric over its runs, by key.

    Runs in which a metric is NaN do not count for it. The mean is NaN without any other run, the deviation
    with fewer than two.
    """

    head: str
    label: str
    runs: int
    mean: dict[str, float]
    deviation: dict[str, float]
    values: dict[str, dict[int, float]] = field(default_factory=dict)  # of every metric, by seed; finite ones

    @classmethod
    def of(cls, head: str, found: Mapping[int, Mapping[str, float]], keys: Iterable[str]) -> "SummaryRow":
        """The row of a head from the metrics of each of its seeds."""
        values = {
            key: {seed: v for seed, own in found.items() if math.isfinite(v := own.get(key, math.nan))}
            for key in keys
        }
        means = {key: statistics.fmean(v.values()) if v else math.nan for key, v in values.items()}
        spreads = {key: statistics.stdev(v.values()) if len(v) > 1 else math.nan for key, v in values.items()}
        return cls(head, head_label(head), len(found), means, spreads, values)

    def minus(self, other: "SummaryRow", key: str, level: float = LEVEL) -> PairedDifference:
        """The mean difference of a metric from another head, with its interval, over the seeds of both."""
        own, base = self.values[key], other.values[key]
        seeds = [seed for seed in own if seed in base]
        x, y = (torch.tensor([side[seed] for seed in seeds], dtype=torch.float64) for side in (own, base))
        return paired_difference(x, y, level)


def summary_rows(comparison: Comparison) -> list[SummaryRow]:
    """One row a head, in the order in which they were first run."""
    keys = [info.key for info in METRICS]
    return [
        SummaryRow.of(head, {run.seed: run.metrics for run in comparison.runs if run.head == head}, keys)
        for head in comparison.heads
    ]


def known_metrics(rows: Sequence[SummaryRow], infos: Iterable[MetricInfo]) -> list[MetricInfo]:
    """The metrics that any head has: those of older results are fewer."""
    return [info for info in infos if any(math.isfinite(row.mean[info.key]) for row in rows)]


def best_heads(rows: Sequence[SummaryRow], info: MetricInfo) -> set[str]:
    """The heads whose mean is the best of all; none where neither direction is better or nothing is compared."""
    means = {row.head: row.mean[info.key] for row in rows if math.isfinite(row.mean[info.key])}
    if not means or not info.better or len(rows) == 1:
        return set()
    best = max(means.values()) if info.better == "higher" else min(means.values())
    return {head for head, mean in means.items() if mean == best}


def leaders(rows: Sequence[SummaryRow], info: MetricInfo) -> list[SummaryRow]:
    """The head with the best mean, then those that the seeds cannot tell apart from it, the best first.

    Two heads can be told apart where the interval of their paired difference misses 0; with one seed none can.

    >>> few = MetricInfo("few", "Few", "%", "higher", "")
    >>> values = {"a": {0: 0.7, 1: 0.8}, "b": {0: 0.5, 1: 0.6}, "c": {0: 0.8, 1: 0.5}}
    >>> rows = [SummaryRow.of(h, {s: {"few": v} for s, v in own.items()}, ["few"]) for h, own in values.items()]
    >>> [row.head for row in leaders(rows, few)]
    ['a', 'c']
    """
    known = (row for row in rows if row.values[info.key])
    ordered = sorted(known, key=lambda row: row.mean[info.key], reverse=info.better == "higher")
    return [row for row in ordered if row is ordered[0] or not row.minus(ordered[0], info.key).clear]


def name_leaders(heads: Sequence[str], seeds: int = 2) -> str:
    """Say which heads share the lead, by the labels of `leaders`; of one seed, which nothing tests, the first.

    >>> name_leaders(["IGAM"]), name_leaders(["IGAM", "ArcFace"]), name_leaders(["IGAM", "ArcFace"], seeds=1)
    ('IGAM', 'IGAM and ArcFace cannot be told apart', 'IGAM; one seed, not tested')
    >>> name_leaders(["IGAM", "ArcFace", "C2AM", "LDAM"])
    'IGAM, ArcFace and 2 others cannot be told apart'
    """
    labels, more = heads[:2], len(heads) - 2
    if len(heads) < 2:
        return "".join(labels)
    if seeds == 1:
        return f"{heads[0]}; one seed, not tested"
    others = f"{', '.join(labels)} and {more} other{'s' * (more > 1)}" if more > 0 else " and ".join(labels)
    return f"{others} cannot be told apart"


def metric_value(info: MetricInfo, value: float) -> str:
    """A value of a metric in the metric's unit, without the unit: one decimal, two where it has no unit.

    >>> share, bare = MetricInfo("a", "A", "%", "higher", ""), MetricInfo("r", "r", "", "", "")
    >>> metric_value(share, 0.8312), metric_value(bare, -0.678), metric_value(share, float("nan"))
    ('83.1', '−0.68', '–')
    """
    return number(info.scale * value, 1 if info.unit else 2)


ShowMetric = Callable[[MetricInfo, float], str]
"""How a mean or a deviation of a metric is written."""


def mean_cell(
    row: SummaryRow, info: MetricInfo, show: ShowMetric = metric_value, *, best: bool = False
) -> Cell:
    """The mean of a metric with its deviation, where there is one."""
    mean, deviation = row.mean[info.key], row.deviation[info.key]
    spread = f"± {show(info, deviation)}" if math.isfinite(deviation) else ""
    return Cell(show(info, mean), mean, spread, best)


def metric_column(info: MetricInfo, *, neither: str = "") -> Column:
    """The column of a metric."""
    direction = {"higher": "Higher is better.", "lower": "Lower is better."}.get(info.better, neither)
    return Column(
        info.label,
        unit=info.unit,
        help=f"{info.help} {direction}".rstrip(),
        better=info.better,
        sorts="ascending" if info.better == "lower" else "descending",
        extra=info.more,
    )


def summary_table(
    rows: Sequence[SummaryRow],
    infos: Sequence[MetricInfo],
    columns: Sequence[Column] = (),
    show: ShowMetric = metric_value,
) -> Table:
    """One row a head, one column a metric: the means with their deviations, the best marked."""
    best = {info: best_heads(rows, info) for info in infos}
    cells = (
        [
            Cell(row.label, row.label),
            *(mean_cell(row, info, show, best=row.head in heads) for info, heads in best.items()),
        ]
        for row in rows
    )
    return Table([Column("Head", "name", sorts="ascending"), *(columns or map(metric_column, infos))], cells)


def legend(rows: Sequence[SummaryRow], over: str) -> list[str]:
    """What the signs of a summary in a terminal mean, a line each."""
    repeated = max((row.runs for row in rows), default=0) > 1
    return ["* best mean of its column"] * (len(rows) > 1) + [f"± standard deviation {over}"] * repeated


def about_heads(rows: Sequence[SummaryRow]) -> list[tuple[str, str]]:
    """The label of each head that is known, and what it is."""
    return [(row.label, summary) for row in rows if (summary := head_summary(row.head))]


def tiles(rows: Sequence[SummaryRow], titles: Mapping[MetricInfo, str]) -> list[Tile]:
    """Return a tile for the best mean of each metric, with the heads that share the lead."""
    found = []
    for info, title in titles.items():
        best = leaders(rows, info)
        if best:
            shown, several = mean_cell(best[0], info), len(rows) > 1
            seeds = max(row.runs for row in best)
            note = name_leaders([row.label for row in best], seeds) if several else None
            term = title if several else info.label
            found.append(Tile(term, shown.text, shown.spread, info.unit, note))
    return found
