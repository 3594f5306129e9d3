"""The pictures of a measurement: a point for each class."""

import math
from collections.abc import Callable, Sequence

from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measurement import Measurement
from bisector.report.colors import class_color
from bisector.report.figure import FAINT, Figure, Json, axis
from bisector.report.names import plot_text, shorten

_NAMED = (
    6  # classes whose names are written beside their points: the hardest, or those with the largest amounts
)
_LONGEST = 12  # letters of a label
_JOINED = 3  # names in one label
_LETTER, _LINE = 0.018, 0.06  # width and height of a letter, of the axes
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
    named = sorted(range(len(points)), key=lambda k: up(points[k][1]), reverse=not worst)[:_NAMED]
    places = [(across(one), up(one)) for _, one in points]
    log = across is _count and spans_decade([x for x, _ in places])
    labels = _labels(named, places, [one.name for _, one in points], log)
    return Figure(
        key=key,
        title=title,
        description=f"A point for each class: {label} across, {_UP[up]} up.",
        data=[
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [x for x, _ in places],
                "y": [y for _, y in places],
                "text": [labels.get(k, "") for k in range(len(points))],
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
            "xaxis": {**axis(label), **(_log_ticks([x for x, _ in places]) if log else {"nticks": 6})},
            "yaxis": {**axis(_UP[up]), "nticks": 6},
            "showlegend": False,
        },
        height=320,
    )


def spans_decade(values: Sequence[float]) -> bool:
    """Whether the largest is at least ten times the smallest, so that a logarithmic axis has something to show."""
    return bool(values) and max(values) >= 10 * min(values)


def _log_ticks(values: Sequence[float]) -> dict[str, Json]:
    """A logarithmic axis with ticks at 1, 2, 5, 10 ..., or at 1, 10, 100 ... where these would be many."""
    least, most = min(values), max(values)
    steps = (1, 2, 5) if most <= 300 * least else (1,)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    ticks = [step * 10**power for power in powers for step in steps]
    ticks = [tick for tick in ticks if least / 1.5 <= tick <= 1.5 * most]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,}" for tick in ticks]}


def _labels(
    named: Sequence[int],  # the points to name
    places: Sequence[tuple[float, float]],
    names: Sequence[str],
    log: bool,
) -> dict[int, str]:
    """What is written above which point; where labels would lie on each other, their points share one."""
    if not named:
        return {}
    across = [math.log(x) if log else x for x, _ in places]
    up = [y for _, y in places]
    wide, high = (max(axis) - min(axis) or 1.0 for axis in (across, up))
    groups: list[list[int]] = []
    for k in sorted(named, key=lambda k: across[k]):
        for group in groups:
            middle = group[len(group) // 2]
            letters = len(_joined([names[k]])) + len(_joined([names[j] for j in group]))
            apart = abs(across[k] - across[middle]) / wide
            if apart < _LETTER * (letters + 1) / 2 and abs(up[k] - up[middle]) / high < _LINE:
                group.append(k)
                break
        else:
            groups.append([k])
    return {
        group[len(group) // 2]: plot_text(_joined([names[k] for k in group]), 4 * _LONGEST)
        for group in groups
    }


def _joined(names: Sequence[str]) -> str:
    """The names of one label, the first ones where there are many.

    >>> _joined(["owl", "wren"]), _joined(list("abcdefg"))
    ('owl, wren', 'a, b, c +4')
    """
    shown = names if len(names) <= _JOINED + 1 else names[:_JOINED]
    more = f" +{len(names) - len(shown)}" if len(names) > len(shown) else ""
    limit = _LONGEST if len(names) == 1 else _LONGEST - 4
    return ", ".join(shorten(name, limit) for name in shown) + more


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
