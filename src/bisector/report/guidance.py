"""The figures that show what guided the boundaries: the margins, and the amounts while training."""

import math

from bisector.report.classes import MOST_NAMES, by_count, class_axis, class_name, first_runs
from bisector.report.colors import class_color
from bisector.report.figure import SCALE, Figure, axis
from bisector.report.names import head_label
from bisector.training.results import Comparison

_MOST_ROWS = 120  # more rows of a square cannot be told apart


def margins(comparison: Comparison) -> list[Figure]:
    """The margins of each head that has a matrix of them, in its first run; classes by information amount."""
    figures: list[Figure] = []
    for run in first_runs(comparison):
        if not run.margins:
            continue
        order = by_count(run.amount_history[-1] if run.amount_history else run.class_amount)
        order = order[:: math.ceil(len(order) / _MOST_ROWS)]
        names = [class_name(comparison, c, 12) for c in order]
        gap = 1 if len(order) <= MOST_NAMES else 0
        largest = max((m for row in run.margins for m in row if math.isfinite(m)), default=0.0)
        figures.append(
            Figure(
                key=f"margins-{len(figures)}",
                title=f"{head_label(run.head)}: up to {largest:.2g} rad",
                description=f"Margins of {head_label(run.head)}, true class down, competitor across, both by "
                f"information amount; the largest is {largest:.2g} radians.",
                data=[
                    {
                        "type": "heatmap",
                        "z": [[run.margins[true][other] for other in order] for true in order],
                        "customdata": [
                            [[class_name(comparison, true), class_name(comparison, other)] for other in order]
                            for true in order
                        ],
                        "hovertemplate": "true %{customdata[0]}<br>competitor %{customdata[1]}<br>"
                        "%{z:.3g} rad<extra></extra>",
                        "zmin": 0,
                        "zmax": largest or 1,
                        "colorscale": SCALE,
                        "xgap": gap,
                        "ygap": gap,
                        "colorbar": {"thickness": 8, "outlinewidth": 0, "nticks": 4},
                    }
                ],
                layout={
                    "xaxis": class_axis(names, "Competitor"),
                    "yaxis": {**class_axis(names, "True class"), "autorange": "reversed"},
                },
            )
        )
    return figures


def amount_history(comparison: Comparison) -> list[Figure]:
    """The amount of each class after every refresh, for each head that measured it, in its first run."""
    figures: list[Figure] = []
    for run in first_runs(comparison):
        refreshes = len(run.amount_history)
        if refreshes < 2:
            continue
        order = by_count(run.amount_history[-1])
        figures.append(
            Figure(
                key=f"history-{len(figures)}",
                title=head_label(run.head),
                description=f"A line for each class: its information amount in bits over the {refreshes} "
                f"refreshes of {head_label(run.head)}.",
                data=[
                    {
                        "type": "scatter",
                        "mode": "lines",
                        "name": class_name(comparison, c, 10),
                        "x": list(range(1, refreshes + 1)),
                        "y": [amounts[c] for amounts in run.amount_history],
                        "line": {"color": class_color(c), "width": 2 if len(order) <= MOST_NAMES else 0.5},
                        "hovertemplate": "refresh %{x}: %{y:.1f} bits",
                    }
                    for c in order
                ],
                layout={
                    "xaxis": {**axis("Refresh"), "showgrid": False, "dtick": math.ceil(refreshes / 10)},
                    "yaxis": axis("Information amount, bits"),
                    "showlegend": len(order) <= MOST_NAMES,
                },
                height=340,
            )
        )
    return figures
