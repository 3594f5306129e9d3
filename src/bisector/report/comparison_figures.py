"""The figures of a comparison: counts, accuracies, amounts and margins of the classes, differences of the heads."""

import math
import statistics
from collections.abc import Iterable, Sequence

from bisector.metrics.summary import METRICS, MetricInfo
from bisector.report.differences import (
    DifferenceRow,
    difference_metrics,
    difference_unit,
    format_difference,
)
from bisector.report.figure import (
    FAINT,
    INK,
    MARGIN,
    MARGIN_SCALE,
    RELAX_SCALE,
    SCALE,
    Figure,
    Json,
    axis,
    class_color,
    heatmap,
    scatter,
)
from bisector.report.names import head_label, plot_text
from bisector.report.summary import SummaryRow, format_mean
from bisector.training.results import Comparison, Run

_INFO = {info.key: info for info in METRICS}

MOST_NAMES = 30
"""More class names than this cannot be read on an axis."""

_MOST_POINTS = 4000
_MOST_ROWS = 120  # more rows of a square cannot be told apart
_BETTER = {"higher": "above 0 is better", "lower": "below 0 is better", "": ""}
_LINE: dict[str, Json] = {"color": INK, "thickness": 1.5, "width": 4}  # of an interval
_ZERO: dict[str, Json] = {"line": {"color": FAINT, "width": 1.5}, "layer": "below"}
_MEANING = {
    "relax": "relax: competitors are moved away",
    "press": "press: competitors are moved nearer, samples must clear more",
}

Matrix = Sequence[Sequence[float]]


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


def train_counts(comparison: Comparison) -> Figure:
    """Training instances per class, as bars from the commonest class to the rarest.

    Where the seeds make different classes rare, a bar is a rank by count, without a name and a colour.
    """
    counts = [round(count) for count in profile(comparison)]
    order = by_count(counts_of(comparison.runs[0], comparison))
    ranked, few = reshuffled(comparison), len(order) <= MOST_NAMES
    names = [f"rank {k + 1}" if ranked else class_name(comparison, c) for k, c in enumerate(order)]
    colors: Json = [class_color(c) for c in order]
    bars: dict[str, Json] = {
        "type": "bar",
        "y": counts,
        "text": counts if few else [],
        "textposition": "outside",
        "textangle": 0,
        "constraintext": "none",
        "cliponaxis": False,
        "hovertext": names,
        "hovertemplate": "%{hovertext}: %{y}<extra></extra>",
        "marker": {"color": FAINT, "opacity": 0.6} if ranked else {"color": colors},
    }
    across = class_axis([class_name(comparison, c, 10) for c in order])
    return Figure(
        "train-counts",
        title="Training instances per class, the commonest first",
        note="Which classes are common and which are rare differs between the seeds." if ranked else "",
        description=f"Bars from {counts[0]} training instances in the commonest class "
        f"to {counts[-1]} in the rarest.",
        data=[bars],
        layout={
            "xaxis": {**across, "autotickangles": [0, -90], "visible": not ranked},
            "yaxis": {"visible": False},
            "bargap": 0.5,
            "margin": {**MARGIN, "t": 20},
        },
        height=110 if ranked else 140,
        wide=not few or (not ranked and max(map(len, comparison.class_names)) > 4),
    )


def class_accuracy(comparison: Comparison) -> Figure:
    """Accuracy of each class by head, averaged over the seeds, from the commonest class to the rarest.

    Where the seeds make different classes rare, a column is a rank by count and not one class.
    """
    ranks = range(len(comparison.class_names))
    ordered = [(run, by_count(counts_of(run, comparison))) for run in comparison.runs]
    percent = {
        head: [
            100 * _mean(run.class_accuracy[order[k]] for run, order in ordered if run.head == head)
            for k in ranks
        ]
        for head in comparison.heads
    }
    ranked, few, first = reshuffled(comparison), len(ranks) <= MOST_NAMES, ordered[0][1]
    names = counts = [f"{count:.0f}" for count in profile(comparison)]
    hover = [f"{count} training instances" for count in counts]
    if not ranked:
        names = [class_name(comparison, c, 12) for c in first]
        hover = [f"{class_name(comparison, c)}<br>{text}" for c, text in zip(first, hover, strict=True)]
    matrix = heatmap(
        list(percent.values()),
        gap=1,
        customdata=[hover] * len(percent),
        hovertext=[[plot_text(head_label(head))] * len(ranks) for head in percent],
        hovertemplate="%{hovertext}<br>%{customdata}<br>%{z:.1f} %<extra></extra>",
        texttemplate="%{z:.0f}" if few else "",
        textfont={"color": INK},
        zmin=min(50.0, *(10 * (p // 10) for row in percent.values() for p in row)),
        zmax=100,
        colorscale=SCALE,
        showscale=not few,
    )
    heads = class_axis([plot_text(head_label(head), 36) for head in percent])
    return Figure(
        "class-accuracy",
        title="Accuracy of each class, %",
        description="A row of accuracies for each head, from the class with most training instances "
        "to the one with fewest.",
        data=[matrix],
        layout={
            "xaxis": class_axis(names, "Training instances" if ranked else "Classes, the commonest first"),
            "yaxis": {**heads, "autorange": "reversed"},
        },
        height=70 + 30 * len(percent),
        wide=True,
    )


def amount_accuracy(comparison: Comparison, rows: Sequence[SummaryRow]) -> list[Figure]:
    """Information amount against accuracy for each head that has any: a point for each class and seed.

    What spreads little beside another head's amounts can be ordered all the same: only accuracy has one axis.
    """
    runs = [run for run in comparison.runs if any(map(math.isfinite, run.class_amount))]
    if len(runs) * len(comparison.class_names) > _MOST_POINTS:
        runs = [run for run in runs if run.seed == runs[0].seed]
    up = _range([100 * share for run in runs for share in run.class_accuracy if math.isfinite(share)])
    by_head = [(row, [run for run in runs if run.head == row.head]) for row in rows]
    return [
        _cloud(comparison, row, own, f"amount-accuracy-{i}", up)
        for i, (row, own) in enumerate((row, own) for row, own in by_head if own)
    ]


def _cloud(comparison: Comparison, row: SummaryRow, runs: Sequence[Run], key: str, up: Json) -> Figure:
    points = [(run, c, count) for run in runs for c, count in enumerate(counts_of(run, comparison))]
    plain, given_count = (
        format_mean(_INFO[key], row) for key in ("r_amount_accuracy", "r_amount_accuracy_given_count")
    )
    cloud = scatter(
        "markers",
        [run.class_amount[c] for run, c, _ in points],
        [100 * run.class_accuracy[c] for run, c, _ in points],
        text=[class_name(comparison, c) for _, c, _ in points],
        customdata=[[count, run.seed] for run, _, count in points],
        hovertemplate="%{text}<br>%{x:.1f} bits, %{y:.1f} % correct<br>"
        "%{customdata[0]} training instances, seed %{customdata[1]}<extra></extra>",
        marker={"color": [class_color(c) for _, c, _ in points], "size": 6, "opacity": 0.8},
    )
    return Figure(
        key,
        title=row.label,
        note=f"r {plain}\ncount held fixed: {given_count}",
        description=f"{row.label}: a point for each class and seed, its information amount in bits across, "
        "its accuracy up.",
        data=[cloud],
        layout={"xaxis": axis("Amount, bits", nticks=5), "yaxis": axis("Accuracy, %", range=up, nticks=5)},
        height=220,
    )


def _range(values: Sequence[float]) -> Json:
    """From the smallest to the largest, with room for the markers; None leaves an axis to plotly."""
    if not values:
        return None
    room = 0.06 * (max(values) - min(values)) or 1.0
    return [min(values) - room, max(values) + room]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return statistics.fmean(known) if known else math.nan


def difference_figures(rows: Sequence[DifferenceRow]) -> list[Figure]:
    """For each metric a line a head: the mean difference as a point and its interval, with zero marked."""
    return [_intervals(rows, info) for info in difference_metrics(rows)]


def _intervals(rows: Sequence[DifferenceRow], info: MetricInfo) -> Figure:
    known = [(i, row.differences[info.key]) for i, row in enumerate(rows) if row.differences[info.key].pairs]
    intervals = any(found.pairs > 1 for _, found in known)
    unit = difference_unit(info)
    labels = [plot_text(row.label, 30) for row in rows]
    symbols = ["circle" if found.clear else "circle-open" for _, found in known]
    halves: Json = [info.scale * (found.high - found.mean) for _, found in known]
    points = scatter(
        "markers",
        [info.scale * found.mean for _, found in known],
        [i for i, _ in known],
        error_x={"type": "data", "array": halves, "visible": intervals, **_LINE},
        text=[" ".join(format_difference(info, found)).replace("-", "−").strip() for _, found in known],
        hovertext=[labels[i] for i, _ in known],
        hovertemplate=f"%{{hovertext}}<br>%{{text}} {unit}<extra></extra>",
        marker={"color": INK, "size": 8, "symbol": symbols},
    )
    zero: Json = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, **_ZERO}
    span: Json = [len(labels) - 0.4, -0.6]
    return Figure(
        f"difference-{info.key.replace('_', '-')}",
        title=f"{info.label}, {unit}",
        description=f"{info.label}: a point for each head at its mean difference from the baseline"
        + (", with its interval as a line." if intervals else "."),
        data=[points],
        layout={
            "xaxis": axis(f"{unit}; {_BETTER[info.better]}", nticks=7, rangemode="tozero"),
            "yaxis": {**class_axis(labels), "tickvals": list(range(len(labels))), "range": span},
            "shapes": [zero],
            "margin": {**MARGIN, "r": 16},
        },
        height=70 + 26 * len(rows),
    )


def margins(comparison: Comparison) -> list[Figure]:
    """The margins of each head that has any, in its first run, all on one colour scale."""
    squares = [(run, run.margins) for run in first_runs(comparison) if run.margins and _largest(run.margins)]
    top = max((_largest(margins) for _, margins in squares), default=0.0)
    return [
        _square(comparison, run, margins, f"margins-{i}", top) for i, (run, margins) in enumerate(squares)
    ]


def without_margins(comparison: Comparison) -> list[str]:
    """The labels of the heads whose margins were all 0 in their first run: there is nothing to draw."""
    return [
        head_label(run.head) for run in first_runs(comparison) if run.margins and not _largest(run.margins)
    ]


def _square(comparison: Comparison, run: Run, margins: Matrix, key: str, top: float) -> Figure:
    """The classes run from the largest margins to the smallest: what that means differs between heads."""
    order = by_count(_strength(margins))
    order = order[:: math.ceil(len(order) / _MOST_ROWS)]
    names = [class_name(comparison, c, 12) for c in order]
    whole = {c: class_name(comparison, c) for c in order}
    gap = 1 if len(order) <= MOST_NAMES else 0
    label = head_label(run.head)
    extent = f"up to {_largest(margins):.2g} rad"
    square = heatmap(
        [[margins[true][other] for other in order] for true in order],
        gap=gap,
        customdata=[[[whole[true], whole[other]] for other in order] for true in order],
        hovertemplate="true %{customdata[0]}<br>competitor %{customdata[1]}<br>%{z:.3g} rad<extra></extra>",
        zmin=0,
        zmax=top,
        colorscale=RELAX_SCALE if run.direction == "relax" else MARGIN_SCALE,
        colorbar={"thickness": 8, "outlinewidth": 0, "nticks": 4},
    )
    return Figure(
        key,
        title=f"{label}: {extent}",
        note=_MEANING.get(run.direction or "", ""),
        description=f"Margins of {label}, {extent}, true class down, competitor across, both from the class "
        "with the largest margins to the one with the smallest.",
        data=[square],
        layout={
            "xaxis": class_axis(names, "Competitor"),
            "yaxis": {**class_axis(names, "True class"), "autorange": "reversed"},
        },
    )


def _largest(margins: Matrix) -> float:
    return max((m for row in margins for m in row if math.isfinite(m)), default=0.0)


def _strength(margins: Matrix) -> list[float]:
    """What a class brings as the true class less what is brought against it."""
    sides = zip(margins, zip(*margins, strict=True), strict=True)
    return [math.fsum(row) - math.fsum(column) for row, column in sides]


def amount_history(comparison: Comparison) -> list[Figure]:
    """The amount of each class after every refresh, for each head that measured it, in its first run."""
    runs = [run for run in first_runs(comparison) if len(run.amount_history) > 1]
    return [_history(comparison, run, f"history-{i}") for i, run in enumerate(runs)]


def _history(comparison: Comparison, run: Run, key: str) -> Figure:
    refreshes, label = len(run.amount_history), head_label(run.head)
    order = by_count(run.amount_history[-1])
    few = len(order) <= MOST_NAMES
    lines = [
        scatter(
            "lines",
            list(range(1, refreshes + 1)),
            [amounts[c] for amounts in run.amount_history],
            name=class_name(comparison, c, 10),
            line={"color": class_color(c), "width": 2 if few else 0.5},
            hovertemplate="refresh %{x}: %{y:.1f} bits",
        )
        for c in order
    ]
    return Figure(
        key,
        title=label,
        description=f"A line for each class: its information amount in bits over the {refreshes} "
        f"refreshes of {label}.",
        data=lines,
        layout={
            "xaxis": axis("Refresh", showgrid=False, dtick=math.ceil(refreshes / 10)),
            "yaxis": axis("Information amount, bits"),
            "showlegend": few,
        },
        height=340,
    )
