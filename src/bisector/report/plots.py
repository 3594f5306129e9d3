"""The figures that show how the classes fare: their counts, their accuracy, their amounts."""

import math
import statistics
from collections.abc import Iterable, Sequence

from bisector.metrics.summary import METRICS
from bisector.report.classes import (
    MOST_NAMES,
    by_count,
    class_axis,
    class_name,
    counts_of,
    profile,
    reshuffled,
)
from bisector.report.colors import class_color
from bisector.report.figure import FAINT, INK, MARGIN, SCALE, Figure, Json, axis
from bisector.report.names import head_label, plot_text
from bisector.report.summary import SummaryRow, format_mean
from bisector.training.results import Comparison, Run

_INFO = {info.key: info for info in METRICS}
_MOST_POINTS = 4000


def train_counts(comparison: Comparison) -> Figure:
    """Training instances per class, as bars from the commonest class to the rarest.

    Where the seeds make different classes rare, a bar is a rank by count, without a name and a colour.
    """
    counts = [round(count) for count in profile(comparison)]
    order = by_count(counts_of(comparison.runs[0], comparison))
    ranked = reshuffled(comparison)
    names = [f"rank {k + 1}" for k in range(len(order))] if ranked else []
    return Figure(
        key="train-counts",
        title="Training instances per class, the commonest first",
        note="Which classes are common and which are rare differs between the seeds." if ranked else "",
        description=f"Bars from {counts[0]} training instances in the commonest class "
        f"to {counts[-1]} in the rarest.",
        data=[
            {
                "type": "bar",
                "y": counts,
                "text": counts if len(order) <= MOST_NAMES else [],
                "textposition": "outside",
                "textangle": 0,
                "constraintext": "none",
                "cliponaxis": False,
                "hovertext": names or [class_name(comparison, c) for c in order],
                "hovertemplate": "%{hovertext}: %{y}<extra></extra>",
                "marker": {"color": FAINT, "opacity": 0.6}
                if ranked
                else {"color": [class_color(c) for c in order]},
            }
        ],
        layout={
            "xaxis": {
                **class_axis([class_name(comparison, c, 10) for c in order]),
                "autotickangles": [0, -90],
                "visible": not ranked,
            },
            "yaxis": {"visible": False},
            "bargap": 0.5,
            "margin": {**MARGIN, "t": 20},
        },
        height=110 if ranked else 140,
        wide=len(order) > MOST_NAMES or (not ranked and max(map(len, comparison.class_names)) > 4),
    )


def class_accuracy(comparison: Comparison) -> Figure:
    """Accuracy of each class by head, averaged over the seeds, from the commonest class to the rarest.

    Where the seeds make different classes rare, a column is a rank by count and not one class.
    """
    ranks = range(len(comparison.class_names))
    orders = [by_count(counts_of(run, comparison)) for run in comparison.runs]
    percent = {
        head: [
            100
            * _mean(
                r.class_accuracy[o[k]] for r, o in zip(comparison.runs, orders, strict=True) if r.head == head
            )
            for k in ranks
        ]
        for head in comparison.heads
    }
    ranked = reshuffled(comparison)
    counts = [f"{count:.0f}" for count in profile(comparison)]
    hover = [f"{count} training instances" for count in counts]
    if not ranked:
        hover = [f"{class_name(comparison, c)}<br>{text}" for c, text in zip(orders[0], hover, strict=True)]
    names = counts if ranked else [class_name(comparison, c, 12) for c in orders[0]]
    return Figure(
        key="class-accuracy",
        title="Accuracy of each class, %",
        description="A row of accuracies for each head, from the class with most training instances "
        "to the one with fewest.",
        data=[
            {
                "type": "heatmap",
                "z": list(percent.values()),
                "customdata": [hover] * len(percent),
                "hovertext": [[plot_text(head_label(head))] * len(ranks) for head in percent],
                "hovertemplate": "%{hovertext}<br>%{customdata}<br>%{z:.1f} %<extra></extra>",
                "texttemplate": "%{z:.0f}" if len(ranks) <= MOST_NAMES else "",
                "zmin": min(50.0, *(10 * (p // 10) for row in percent.values() for p in row)),
                "zmax": 100,
                "colorscale": SCALE,
                "showscale": len(ranks) > MOST_NAMES,
                "textfont": {"color": INK},
                "xgap": 1,
                "ygap": 1,
            }
        ],
        layout={
            "xaxis": class_axis(names, "Training instances" if ranked else "Classes, the commonest first"),
            "yaxis": {
                **class_axis([plot_text(head_label(head), 36) for head in percent]),
                "autorange": "reversed",
            },
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


def _cloud(
    comparison: Comparison,
    row: SummaryRow,
    runs: Sequence[Run],
    key: str,
    up: Json,
) -> Figure:
    points = [(run, c, count) for run in runs for c, count in enumerate(counts_of(run, comparison))]
    r, r_given_count = (
        format_mean(_INFO[metric], row) for metric in ("r_amount_accuracy", "r_amount_accuracy_given_count")
    )
    return Figure(
        key=key,
        title=row.label,
        note=f"r {r}\ncount held fixed: {r_given_count}",
        description=f"{row.label}: a point for each class and seed, its information amount in bits across, "
        "its accuracy up.",
        data=[
            {
                "type": "scatter",
                "mode": "markers",
                "x": [run.class_amount[c] for run, c, _ in points],
                "y": [100 * run.class_accuracy[c] for run, c, _ in points],
                "text": [class_name(comparison, c) for _, c, _ in points],
                "customdata": [[count, run.seed] for run, _, count in points],
                "hovertemplate": "%{text}<br>%{x:.1f} bits, %{y:.1f} % correct<br>"
                "%{customdata[0]} training instances, seed %{customdata[1]}<extra></extra>",
                "marker": {"color": [class_color(c) for _, c, _ in points], "size": 6, "opacity": 0.8},
            }
        ],
        layout={
            "xaxis": {**axis("Amount, bits"), "nticks": 5},
            "yaxis": {**axis("Accuracy, %"), "range": up, "nticks": 5},
        },
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
