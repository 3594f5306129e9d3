"""The pictures of a measurement: a point for each class."""

import math
from collections.abc import Callable, Sequence

from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measurement import Measurement
from bisector.report.colors import class_color
from bisector.report.figure import FAINT, Figure, Json, axis
from bisector.report.names import plot_text

_NAMED = (
    6  # classes whose names are written beside their points: the hardest, or those with the largest amounts
)
_Quantity = Callable[[ClassMeasure], float]


def scatter_plots(found: Measurement) -> list[Figure]:
    """Amount and count against accuracy; without predictions, count against amount."""
    if found.tested_on:
        return [
            _scatter(found, "amount-accuracy", "Amount and accuracy", _amount, _accuracy, "Amount, bits"),
            _scatter(found, "count-accuracy", "Count and accuracy", _count, _accuracy, "Rows"),
        ]
    return [_scatter(found, "count-amount", "Count and amount", _count, _amount, "Rows")]


def _scatter(
    found: Measurement, key: str, title: str, across: _Quantity, up: _Quantity, label: str
) -> Figure:
    points = [
        (c, one)
        for c, one in enumerate(found.classes)
        if math.isfinite(across(one)) and math.isfinite(up(one))
    ]
    worst = up is not _amount
    names = {
        one.name for _, one in sorted(points, key=lambda point: up(point[1]), reverse=not worst)[:_NAMED]
    }
    rows = across is _count
    return Figure(
        key=key,
        title=title,
        description=f"A point for each class: {label} across, {_UP[up]} up.",
        data=[
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [across(one) for _, one in points],
                "y": [up(one) for _, one in points],
                "text": [plot_text(one.name, 12) if one.name in names else "" for _, one in points],
                "textposition": "top center",
                "textfont": {"size": 10, "color": FAINT},
                "cliponaxis": False,
                "customdata": _hover([one for _, one in points]),
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {
                    "color": [class_color(c) for c, _ in points],
                    "size": 8 if len(points) < 100 else 5,
                    "opacity": 0.8,
                },
            }
        ],
        layout={
            "xaxis": {**axis(label), **({"type": "log", "dtick": "D2"} if rows else {"nticks": 6})},
            "yaxis": {**axis(_UP[up]), "nticks": 6},
            "showlegend": False,
        },
        height=320,
    )


def _hover(classes: Sequence[ClassMeasure]) -> list[Json]:
    return [
        "<br>".join(
            [
                plot_text(one.name),
                f"{one.count:,} rows",
                *([f"{one.amount:.1f} bits"] if math.isfinite(one.amount) else []),
                *(
                    [f"{100 * one.accuracy:.1f} % of {one.tested:,} correct"]
                    if math.isfinite(one.accuracy)
                    else []
                ),
            ]
        )
        for one in classes
    ]


def _amount(one: ClassMeasure) -> float:
    return one.amount


def _count(one: ClassMeasure) -> float:
    return float(one.count) if one.count else math.nan


def _accuracy(one: ClassMeasure) -> float:
    return 100 * one.accuracy


_UP: dict[_Quantity, str] = {_amount: "Amount, bits", _accuracy: "Accuracy, %"}
