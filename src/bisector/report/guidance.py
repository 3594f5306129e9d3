"""The figures that show what guided the boundaries: the margins, and the amounts while training."""

import math
from collections.abc import Sequence

from bisector.report.classes import MOST_NAMES, by_count, class_axis, class_name, first_runs
from bisector.report.colors import class_color
from bisector.report.figure import MARGIN_SCALE, RELAX_SCALE, Figure, axis
from bisector.report.names import head_label
from bisector.training.results import Comparison, Run

_MOST_ROWS = 120  # more rows of a square cannot be told apart
_MEANING = {
    "relax": "relax: competitors are moved away",
    "press": "press: competitors are moved nearer, samples must clear more",
}

Matrix = Sequence[Sequence[float]]


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
    gap = 1 if len(order) <= MOST_NAMES else 0
    label = head_label(run.head)
    extent = f"up to {_largest(margins):.2g} rad"
    return Figure(
        key=key,
        title=f"{label}: {extent}",
        note=_MEANING.get(run.direction or "", ""),
        description=f"Margins of {label}, {extent}, true class down, competitor across, both from the class "
        "with the largest margins to the one with the smallest.",
        data=[
            {
                "type": "heatmap",
                "z": [[margins[true][other] for other in order] for true in order],
                "customdata": [
                    [[class_name(comparison, true), class_name(comparison, other)] for other in order]
                    for true in order
                ],
                "hovertemplate": "true %{customdata[0]}<br>competitor %{customdata[1]}<br>"
                "%{z:.3g} rad<extra></extra>",
                "zmin": 0,
                "zmax": top,
                "colorscale": RELAX_SCALE if run.direction == "relax" else MARGIN_SCALE,
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


def _largest(margins: Matrix) -> float:
    return max((m for row in margins for m in row if math.isfinite(m)), default=0.0)


def _strength(margins: Matrix) -> list[float]:
    """What a class brings as the true class less what is brought against it."""
    return [
        math.fsum(row) - math.fsum(column)
        for row, column in zip(margins, zip(*margins, strict=True), strict=True)
    ]


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
