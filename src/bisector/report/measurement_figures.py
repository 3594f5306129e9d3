"""The pictures of a measurement: a point for each class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measurement import Measurement
from bisector.report.figure import FAINT, Figure, Json, axis
from bisector.report.names import plot_text, shorten

_NAMED = (
    6  # classes whose names are written beside their points: the hardest, or those with the largest amounts
)
_MOST_POINTS = 200  # with names: of more, names would cover points, and each tells its own when pointed at
_LONGEST = 12  # letters of a label
_JOINED = 3  # names in one label
_LETTER, _LINE = 0.018, 0.06  # width and height of a letter, of the axes
_MOST_SCORES = 6  # with pictures
_RARE_TO_FREQUENT: Json = [[0, "<--warmhigh>"], [0.5, FAINT], [1, "<--accent>"]]


@dataclass(frozen=True)
class _Point:
    one: ClassMeasure
    across: float
    up: float


def scatter_plots(found: Measurement) -> list[Figure]:
    """Amount and count against every score, in the colour of the count; without scores, count against amount."""
    if not found.scores:
        points = [_Point(one, _count(one), one.amount) for one in found.classes]
        return [_scatter("count-amount", "Count and amount", points, "Rows", "Amount, bits", worst=False)]
    figures = []
    for k, score in enumerate(found.scores[:_MOST_SCORES]):
        name = plot_text(score.name)
        label = f"{name}, %" if score.percent else name
        label = label[:1].upper() + label[1:]
        values = [100 * value if score.percent else value for value in score.values]
        for key, title, quantity, across in (
            ("amount", "Amount and", "Amount, bits", _amount),
            ("count", "Count and", "Rows", _count),
        ):
            points = [_Point(one, across(one), up) for one, up in zip(found.classes, values, strict=True)]
            figures.append(
                _scatter(f"score-{k}-{key}", f"{title} {score.name}", points, quantity, label, worst=True)
            )
    return figures


def _scatter(key: str, title: str, points: Sequence[_Point], across: str, up: str, *, worst: bool) -> Figure:
    points = [point for point in points if math.isfinite(point.across) and math.isfinite(point.up)]
    named = sorted(range(len(points)), key=lambda k: points[k].up, reverse=not worst)
    named = named[: _NAMED if len(points) <= _MOST_POINTS else 0]
    places = [(point.across, point.up) for point in points]
    log = across == "Rows" and spans_decade([x for x, _ in places])
    labels = _labels(named, places, [point.one.name for point in points], log)
    return Figure(
        key=key,
        title=title,
        description=f"A point for each class: {across} across, {up} up.",
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
                "customdata": _hover(points, up),
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {
                    **_count_colors([point.one.count for point in points], bar=across != "Rows"),
                    "size": 8 if len(points) < 100 else 5,
                    "opacity": 0.8,
                },
            }
        ],
        layout={
            "xaxis": {**axis(across), **(_log_ticks([x for x, _ in places]) if log else {"nticks": 6})},
            "yaxis": {**axis(up), "nticks": 6},
            "showlegend": False,
        },
        height=320,
    )


def _count_colors(counts: Sequence[int], *, bar: bool) -> dict[str, Json]:
    """Colours by the logarithm of the count, with a bar that explains them; one colour where counts are equal."""
    if not counts or min(counts) == max(counts):
        return {"color": "<--accent>"}
    colors: dict[str, Json] = {
        "color": [math.log10(max(count, 1)) for count in counts],
        "colorscale": _RARE_TO_FREQUENT,
    }
    if bar:
        ends = sorted({min(counts), max(counts), *_decades(min(counts), max(counts))})
        colors["colorbar"] = {
            "title": {"text": "Rows", "side": "top", "font": {"size": 11}},
            "tickvals": [math.log10(max(count, 1)) for count in ends],
            "ticktext": [f"{count:,}" for count in ends],
            "tickfont": {"size": 10},
            "thickness": 8,
            "outlinewidth": 0,
            "xpad": 4,
        }
    return colors


def _decades(least: int, most: int) -> list[int]:
    """Powers of ten between, those away that would be written over an end."""
    powers = [10**power for power in range(12)]
    return [power for power in powers if 2 * least <= power <= most / 2]


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


def _hover(points: Sequence[_Point], up: str) -> list[Json]:
    texts: list[Json] = []
    for point in points:
        one = point.one
        lines = [plot_text(one.name), f"{one.count:,} rows"]
        if math.isfinite(one.amount):
            lines.append(f"{one.amount:.1f} bits")
        if up != "Amount, bits":
            lines.append(f"{up}: {point.up:.3g}")
        if up == "Accuracy, %":
            lines.append(f"{one.tested:,} tested")
        texts.append("<br>".join(lines))
    return texts


def _amount(one: ClassMeasure) -> float:
    return one.amount


def _count(one: ClassMeasure) -> float:
    return float(one.count) if one.count else math.nan
