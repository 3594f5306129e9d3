"""The table of a comparison: mean and standard deviation over the seeds, one row a head."""

import math
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bisector.errors import require
from bisector.files import write_rows
from bisector.metrics.summary import METRICS, MetricInfo
from bisector.report.names import head_label, shorten
from bisector.statistics.paired import PairedDifference, paired_difference
from bisector.training.results import Comparison

LEVEL = 0.95  # of the intervals of differences
_NAME_WIDTH = 32


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
        return cls(
            head=head,
            label=head_label(head),
            runs=len(found),
            mean={key: statistics.fmean(v.values()) if v else math.nan for key, v in values.items()},
            deviation={
                key: statistics.stdev(v.values()) if len(v) > 1 else math.nan for key, v in values.items()
            },
            values=values,
        )


def summary_rows(comparison: Comparison) -> list[SummaryRow]:
    """One row a head, in the order in which they were first run."""
    keys = [info.key for info in METRICS]
    return [
        SummaryRow.of(head, {run.seed: run.metrics for run in comparison.runs if run.head == head}, keys)
        for head in comparison.heads
    ]


def known_metrics(rows: Sequence[SummaryRow]) -> list[MetricInfo]:
    """The metrics that any head has: those of older results are fewer."""
    return [info for info in METRICS if any(math.isfinite(row.mean[info.key]) for row in rows)]


def best_heads(rows: Sequence[SummaryRow], info: MetricInfo) -> set[str]:
    """The heads whose mean is the best of all; none where neither direction is better or nothing is compared."""
    means = {row.head: row.mean[info.key] for row in rows if math.isfinite(row.mean[info.key])}
    if not means or not info.better or len(rows) == 1:
        return set()
    best = max(means.values()) if info.better == "higher" else min(means.values())
    return {head for head, mean in means.items() if mean == best}


def paired(own: Mapping[int, float], other: Mapping[int, float]) -> PairedDifference:
    """The mean of `own` less `other` with its interval, over the seeds that both have."""
    seeds = [seed for seed in own if seed in other]
    x, y = (torch.tensor([side[seed] for seed in seeds], dtype=torch.float64) for side in (own, other))
    return paired_difference(x, y, LEVEL)


def leaders(values: Mapping[str, Mapping[int, float]], better: str) -> list[str]:
    """The head with the best mean, then those that the seeds cannot tell apart from it, the best first.

    Two heads can be told apart where the interval of their paired difference misses 0; with one seed none can.

    Args:
        values: of each head, by seed.
        better: "higher" or "lower".

    >>> leaders({"a": {0: 0.7, 1: 0.8}, "b": {0: 0.5, 1: 0.6}, "c": {0: 0.8, 1: 0.5}}, "higher")
    ['a', 'c']
    """
    ordered = sorted(
        (head for head, own in values.items() if own),
        key=lambda head: statistics.fmean(values[head].values()),
        reverse=better == "higher",
    )
    return [
        head for head in ordered if head == ordered[0] or not paired(values[head], values[ordered[0]]).clear
    ]


def told_apart(heads: Sequence[str]) -> str:
    """What can be told of `leaders` in words.

    >>> told_apart(["igam"]), told_apart(["igam", "arcface"])
    ('IGAM', 'IGAM and ArcFace cannot be told apart')
    >>> told_apart(["igam", "arcface", "c2am", "ldam"])
    'IGAM, ArcFace and 2 others cannot be told apart'
    """
    labels, more = [head_label(head) for head in heads[:2]], len(heads) - 2
    if len(heads) < 2:
        return "".join(labels)
    others = f"{', '.join(labels)} and {more} other{'s' * (more > 1)}" if more > 0 else " and ".join(labels)
    return f"{others} cannot be told apart"


def format_value(info: MetricInfo, value: float) -> str:
    """A value of a metric in the metric's unit, without the unit: one decimal, two where it has no unit.

    >>> format_value(METRICS[0], 0.8312), format_value(METRICS[0], float("nan"))
    ('83.1', '–')
    """
    return f"{info.scale * value:.{1 if info.unit else 2}f}" if math.isfinite(value) else "–"


def format_mean(info: MetricInfo, row: SummaryRow) -> str:
    """The mean with its deviation, where there is one, as in "−0.53 ± 0.32"."""
    mean, deviation = row.mean[info.key], row.deviation[info.key]
    spread = f" ± {format_value(info, deviation)}" if math.isfinite(deviation) else ""
    return format_value(info, mean).replace("-", "−") + spread


def format_table(comparison: Comparison, width: int = 160) -> str:
    """The summary as plain text for a terminal.

    Heads stand down the side, metrics across; where the columns do not fit side by side they continue in a
    further block below. A star marks the best mean of a column, if there are several heads.

    Args:
        comparison: what was compared.
        width: columns of the terminal, at least 60.

    Raises:
        ArgumentError: if the terminal is too narrow.
    """
    require(width >= 60, "width", width, "at least 60 columns")
    rows = summary_rows(comparison)
    seeds = max((row.runs for row in rows), default=0)
    blocks = text_blocks(
        [row.label for row in rows], [_column(rows, info) for info in known_metrics(rows)], width
    )
    legend = [
        *(["* best mean of its column"] if len(rows) > 1 else []),
        *([f"± standard deviation over {seeds} seeds"] if seeds > 1 else []),
    ]
    return "\n\n".join([*blocks, *filter(None, ["\n".join(legend)])])


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one row a run: head, seed, every metric (accuracies 0 to 1) and the seconds it took.

    A cell is empty where the metric is not a finite number.
    """
    rows: list[list[object]] = [["head", "seed", *(info.key for info in METRICS), "seconds"]]
    for run in comparison.runs:
        values = (run.metrics.get(info.key, math.nan) for info in METRICS)
        rows.append([run.head, run.seed, *(v if math.isfinite(v) else "" for v in values), run.seconds])
    write_rows(path, rows)


def text_blocks(names: Sequence[str], columns: Sequence[list[str]], width: int) -> list[str]:
    """Names down the side and columns across, in as many blocks as the width demands.

    Args:
        names: of the rows; long ones are cut.
        columns: each its heading, then a cell for each name.
        width: of the terminal, in characters.

    >>> print(*text_blocks(["IGAM", "C2AM"], [["Few %", "83.1", "79.0"]], 60))
           Few
             %
    ──────────
    IGAM  83.1
    C2AM  79.0
    """
    side = ["", *(shorten(name, _NAME_WIDTH) for name in names)]
    return ["\n".join(_lines([side, *block])) for block in _pack(columns, width - _NAME_WIDTH)]


def _column(rows: Sequence[SummaryRow], info: MetricInfo) -> list[str]:
    """The heading, then a cell a row, with the means in line."""
    best = best_heads(rows, info)
    means = [format_value(info, row.mean[info.key]) for row in rows]
    spreads = [
        (f" ± {format_value(info, deviation)}" if math.isfinite(deviation) else "") + "*" * (row.head in best)
        for row in rows
        for deviation in [row.deviation[info.key]]
    ]
    width = max(map(len, spreads), default=0)
    cells = [mean + spread.ljust(width) for mean, spread in zip(means, spreads, strict=True)]
    return [f"{info.label} {info.unit}".rstrip(), *cells]


def _pack(columns: Sequence[list[str]], width: int) -> Iterator[list[list[str]]]:
    """Distribute the columns over as few blocks as the width allows."""
    block: list[list[str]] = []
    used = 0
    for column in columns:
        needed = _column_width(column) + 2
        if block and used + needed > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += needed
    yield block


def _column_width(column: Sequence[str]) -> int:
    heading, *cells = column
    return max(map(len, [*heading.split(), *cells]))


def _lines(columns: Sequence[list[str]]) -> Iterator[str]:
    """The headings over as many lines as they need, a rule, and the cells."""
    widths = [_column_width(column) for column in columns]
    headings = [
        textwrap.wrap(column[0], width, break_long_words=False)
        for column, width in zip(columns, widths, strict=True)
    ]
    depth = max(map(len, headings))
    raised = [[""] * (depth - len(heading)) + heading for heading in headings]
    for line in zip(*raised, strict=True):
        yield _line(line, widths)
    yield "─" * (sum(widths) + 2 * (len(widths) - 1))
    for line in zip(*(column[1:] for column in columns), strict=True):
        yield _line(line, widths)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first.strip().ljust(widths[0]), *others]).rstrip()
