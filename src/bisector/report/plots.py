"""The figures that show how the classes fare: their counts, their accuracy, their amounts."""

import math
import statistics
from collections.abc import Iterable, Mapping

from bisector.report.classes import MOST_NAMES, by_count, class_axis, class_name, counts_of
from bisector.report.colors import class_color, head_color, head_symbol
from bisector.report.figure import INK, MARGIN, SCALE, Figure, Json, axis
from bisector.report.names import head_label, plot_text
from bisector.training.results import Comparison

_MOST_POINTS = 4000


def train_counts(comparison: Comparison) -> Figure:
    """Training instances per class, as bars from the commonest class to the rarest."""
    order = by_count(comparison.train_counts)
    counts = [comparison.train_counts[c] for c in order]
    return Figure(
        key="train-counts",
        title="Training instances per class",
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
                "hovertext": [class_name(comparison, c) for c in order],
                "hovertemplate": "%{hovertext}: %{y}<extra></extra>",
                "marker": {"color": [class_color(c) for c in order]},
            }
        ],
        layout={
            "xaxis": {
                **class_axis([class_name(comparison, c, 10) for c in order]),
                "autotickangles": [0, -90],
            },
            "yaxis": {"visible": False},
            "bargap": 0.5,
            "margin": {**MARGIN, "t": 20},
        },
        height=140,
        wide=len(order) > MOST_NAMES or max(map(len, comparison.class_names)) > 4,
    )


def class_accuracy(comparison: Comparison) -> Figure:
    """Accuracy of each class by head, averaged over the seeds, from the commonest class to the rarest.

    Where the seeds make different classes rare, a column is a rank by count and not one class.
    """
    ranks = range(len(comparison.class_names))
    ranked = [(run, counts_of(run, comparison)) for run in comparison.runs]
    orders = [by_count(counts) for _, counts in ranked]
    counts = [
        statistics.fmean(counts[order[k]] for (_, counts), order in zip(ranked, orders, strict=True))
        for k in ranks
    ]
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
    one_order = all(order == orders[0] for order in orders)
    hover = [f"{count:.4g} training instances" for count in counts]
    if one_order:
        names = [class_name(comparison, c, 12) for c in orders[0]]
        hover = [f"{class_name(comparison, c)}<br>{text}" for c, text in zip(orders[0], hover, strict=True)]
    else:
        names = [f"{count:.3g}" for count in counts]
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
            "xaxis": class_axis(names, "Classes, the commonest first" if one_order else "Training instances"),
            "yaxis": {
                **class_axis([plot_text(head_label(head), 24) for head in percent]),
                "autorange": "reversed",
            },
        },
        height=70 + 30 * len(percent),
        wide=True,
    )


def amount_accuracy(comparison: Comparison) -> Figure | None:
    """Information amount against accuracy, a point for each class of each run; None without any amount."""
    runs = [run for run in comparison.runs if any(map(math.isfinite, run.class_amount))]
    if len(runs) * len(comparison.class_names) > _MOST_POINTS:
        runs = [run for run in runs if run.seed == runs[0].seed]
    traces: list[Mapping[str, Json]] = []
    for head in dict.fromkeys(run.head for run in runs):
        points = [
            (run, c, count)
            for run in runs
            if run.head == head
            for c, count in enumerate(counts_of(run, comparison))
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plot_text(head_label(head), 30),
                "x": [run.class_amount[c] for run, c, _ in points],
                "y": [100 * run.class_accuracy[c] for run, c, _ in points],
                "text": [class_name(comparison, c) for _, c, _ in points],
                "customdata": [[count, run.seed] for run, _, count in points],
                "hovertemplate": "%{text}<br>%{x:.1f} bits, %{y:.1f} % correct<br>"
                "%{customdata[0]} training instances, seed %{customdata[1]}",
                "marker": {
                    "color": head_color(comparison, head),
                    "symbol": head_symbol(comparison, head),
                    "size": 7,
                    "opacity": 0.8,
                },
            }
        )
    if not traces:
        return None
    return Figure(
        key="amount-accuracy",
        title="Information amount and accuracy of each class",
        description="A point for each class of each head and seed: "
        "its information amount in bits across, its accuracy up.",
        data=traces,
        layout={
            "xaxis": axis("Information amount, bits"),
            "yaxis": axis("Accuracy of the class, %"),
            "legend": {"orientation": "h", "y": -0.15, "yanchor": "top", "x": 0, "xanchor": "left"},
        },
        height=470,
    )


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return statistics.fmean(known) if known else math.nan
