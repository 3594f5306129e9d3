"""The pictures of a measurement: a point for each class."""

import math
from collections.abc import Sequence
from itertools import combinations

from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measurement import Measurement
from bisector.report.parts import ACCENT, FAINT, WARM, Figure, Json, axis, log_ticks, scatter
from bisector.report.words import plot_text, short_names

_NAMED = 6  # classes with names beside their points: the hardest, or those with the largest amounts
_MOST_POINTS = 200  # with names: of more, names would cover points, and each tells its own when pointed at
_MOST_DRAWN = 1000  # points: of more, a browser takes seconds
_LONGEST, _SHARING = 12, 8  # letters of a name in a label, alone and beside others
_JOINED = 3  # names in one label
_LETTER, _LINE = 0.024, 0.06  # width and height of a letter, of the axes on a narrow screen
_MOST_SCORES = 6  # with pictures

Point = tuple[ClassMeasure, float, float]
"""A class, its place across and its place up."""


def scatter_plots(found: Measurement) -> list[Figure]:
    """Amount and count against every score, in the colour of the count; without scores, count against amount."""
    counts = [float(one.count) if one.count else math.nan for one in found.classes]
    amounts = [one.amount for one in found.classes]
    if not found.scores:
        points = list(zip(found.classes, counts, amounts, strict=True))
        return [_scatter("count-amount", "Count and amount", points, "Rows", "Amount, bits", worst=False)]
    figures = []
    for k, score in enumerate(found.scores[:_MOST_SCORES]):
        label = plot_text(score.name) + ", %" * score.percent
        label = label[:1].upper() + label[1:]
        up = [100 * value if score.percent else value for value in score.values]
        for key, across, values in (("amount", "Amount, bits", amounts), ("count", "Rows", counts)):
            if all(map(math.isnan, values)):
                continue
            points = list(zip(found.classes, values, up, strict=True))
            title = f"{key.capitalize()} and {score.name}"
            figures.append(_scatter(f"score-{k}-{key}", title, points, across, label))
    return figures


def _scatter(
    key: str, title: str, points: Sequence[Point], across: str, up: str, *, worst: bool = True
) -> Figure:
    """A point for each class that has both; the names of the lowest are written, or of the highest."""
    points = [point for point in points if math.isfinite(point[1]) and math.isfinite(point[2])]
    known = len(points)
    if known > _MOST_DRAWN:  # evenly over their order, so that the shape of the cloud stays
        points = sorted(points, key=lambda point: point[2])[:: math.ceil(known / _MOST_DRAWN)]
    classes, x, y = [one for one, _, _ in points], [x for _, x, _ in points], [y for _, _, y in points]
    log = across == "Rows" and bool(x) and max(x) >= 10 * min(x)  # else such an axis has nothing to show
    named = sorted(range(len(points)), key=lambda k: y[k], reverse=not worst)
    named = named[: _NAMED if len(points) <= _MOST_POINTS else 0]
    labels = _labels(named, [math.log(v) for v in x] if log else x, y, [one.name for one in classes])
    texts: dict[str, Json] = {  # none of many points: each would be laid out, empty or not
        "text": [labels.get(k, "") for k in range(len(points))],
        "textposition": "top center",
        "textfont": {"size": 10, "color": FAINT},
        "cliponaxis": False,
    }
    trace = scatter(
        "markers+text" if labels else "markers",
        x,
        y,
        **(texts if labels else {}),
        customdata=[_hover(one, value, up) for one, value in zip(classes, y, strict=True)],
        hovertemplate="%{customdata}<extra></extra>",
        marker={
            **_count_colors([one.count for one in classes], across != "Rows"),
            "size": 8 if len(points) < 100 else 5,
            "opacity": 0.8,
        },
    )
    return Figure(
        key,
        title=title,
        note=f"{len(points):,} of {known:,} classes, evenly drawn" if len(points) < known else "",
        description=f"A point for each class: {across} across, {up} up.",
        data=[trace],
        layout={
            "xaxis": axis(across, **(_count_ticks(x) if log else {"nticks": 6})),
            "yaxis": axis(up, nticks=6),
            "showlegend": False,
        },
        height=320,
    )


def _hover(one: ClassMeasure, value: float, up: str) -> str:
    lines = [plot_text(one.name), f"{one.count:,} rows"]
    lines += [f"{one.amount:.1f} bits"] * math.isfinite(one.amount)
    lines += [f"{up}: {value:.3g}"] * (up != "Amount, bits")
    lines += [f"{one.tested:,} tested"] * (up == "Accuracy, %")
    return "<br>".join(lines)


def _count_colors(counts: Sequence[int], bar: bool) -> dict[str, Json]:
    """Colours by the logarithm of the count, with a bar that explains them; one colour where counts are equal."""
    if len(set(counts)) < 2:
        return {"color": ACCENT}
    colors: dict[str, Json] = {
        "color": [math.log10(max(count, 1)) for count in counts],
        "colorscale": [[0, WARM], [0.5, FAINT], [1, ACCENT]],
    }
    if bar:
        least, most = min(counts), max(counts)
        # The ends, and the powers of ten that would not be written over one.
        ends = sorted({least, most, *(10**k for k in range(12) if 2 * least <= 10**k <= most / 2)})
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


def _count_ticks(values: Sequence[float]) -> dict[str, Json]:
    """A logarithmic axis with ticks at 1, 2, 5, 10 ..., or at 1, 10, 100 ... where these would be many."""
    least, most = min(values), max(values)
    steps = (1, 2, 5) if most <= 300 * least else (1,)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    every = (step * 10**power for power in powers for step in steps)
    return log_ticks([tick for tick in every if least / 1.5 <= tick <= 1.5 * most])


def _labels(
    named: Sequence[int], across: Sequence[float], up: Sequence[float], names: Sequence[str]
) -> dict[int, str]:
    """What is written above which point; where labels would lie on each other, their points share one."""
    if not named:
        return {}
    wide, high = (max(axis) - min(axis) or 1.0 for axis in (across, up))
    groups = [[k] for k in sorted(named, key=lambda k: across[k])]
    whole = [names[k] for k in named]
    alone, beside = (dict(zip(named, short_names(whole, most), strict=True)) for most in (_LONGEST, _SHARING))

    def text(group: Sequence[int]) -> str:
        return _joined([(alone if len(group) == 1 else beside)[k] for k in group])

    def touch(one: Sequence[int], other: Sequence[int]) -> bool:
        k, j = one[len(one) // 2], other[len(other) // 2]
        letters = len(text(one)) + len(text(other))
        apart = abs(across[k] - across[j]) / wide
        return apart < _LETTER * (letters + 1) / 2 and abs(up[k] - up[j]) / high < _LINE

    while pair := next((pair for pair in combinations(groups, 2) if touch(*pair)), None):
        first, second = pair
        groups.remove(second)
        first[:] = sorted(first + second, key=lambda k: across[k])
    return {group[len(group) // 2]: plot_text(text(group)) for group in groups}


def _joined(names: Sequence[str]) -> str:
    """The names of one label, the first ones where there are many.

    >>> _joined(["owl", "wren"]), _joined(list("abcdefg"))
    ('owl, wren', 'a, b, c +4')
    """
    shown = names if len(names) <= _JOINED + 1 else names[:_JOINED]
    more = f" +{len(names) - len(shown)}" if len(names) > len(shown) else ""
    return ", ".join(shown) + more
