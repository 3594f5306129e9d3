"""The figures of a detector's page: the AP of the classes against their training boxes."""

import math
from collections.abc import Sequence

from bisector.report.colors import PALETTE
from bisector.report.detection_classes import class_groups, training_boxes
from bisector.report.detection_points import ClassPoint, class_points, group_means, parts_of
from bisector.report.detection_run import DetectionRun, by_head, same_data
from bisector.report.figure import FAINT, INK, MARGIN, Figure, Json, axis
from bisector.report.measurement_parts import section
from bisector.report.names import head_label, plot_text
from bisector.report.sections import plot

_MEANS = "group-means"
_NAMED = 10  # classes; of more, names would cover the points
_COLORS = {"rare": "<--warmhigh>", "common": FAINT, "frequent": "<--accent>"}
_LINES = ("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#94a4a2", "#a96b59")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
_DASHES = ("solid", "dash", "dot", "dashdot")


def count_figures(runs: Sequence[DetectionRun]) -> list[Figure]:
    """AP against the number of training boxes: the groups' means of all heads, then a point a class for each head.

    None where the training boxes are not known or all classes have as many.
    """
    parts = {head: parts_of(own) for head, own in by_head(runs).items()}
    heads = {head: [point for part in own for point in class_points(part)] for head, own in parts.items()}
    if len({point.boxes for points in heads.values() for point in points}) < 2:
        return []
    means = {head: group_means(own) for head, own in parts.items()}
    top = max((point.ap for points in heads.values() for point in points), default=1.0)
    up: Json = [-3, min(103.0, 1.1 * top + 3)]
    figures = [_lines(means)] if len(heads) > 1 and any(means.values()) else []
    for k, (head, points) in enumerate(heads.items()):
        each = "class of each seed" if len(parts[head]) > 1 else "class"
        figures.append(_points(f"count-ap-{k}", head, points, each, means[head], up))
    return figures


def count_section(runs: Sequence[DetectionRun], figures: Sequence[Figure]) -> str:
    """The figures, and how to read them."""
    points = [figure for figure in figures if figure.key != _MEANS]
    lines = "".join(plot(figure) for figure in figures if figure.key == _MEANS)
    drawn = "".join(map(plot, points))
    alike = len(same_data(runs)) == len(runs)
    each = "class" if alike else "class of one seed, as seeds had boxes of their own"
    text = f"Each point is a {each}."
    if any(any(class_groups([run])) for run in runs):
        text = (
            f"Each point is a {each}: the rare ones orange, the common grey, the frequent blue. A line joins the "
            "means of the groups: the flatter it is, the less a class pays for being rare."
        )
    if any(0 in training_boxes([run]) for run in runs):
        text += " Classes without training boxes have no point, but count in the means."
    return section(
        "counts",
        "Do the classes with few training boxes fall behind?",
        text,
        lines + (f'<div class="grid small">{drawn}</div>' if len(points) > 1 else drawn),
    )


def _lines(means: dict[str, dict[str, tuple[float, float]]]) -> Figure:
    data: list[dict[str, Json]] = []
    for k, (head, groups) in enumerate(means.items()):
        color, name = _LINES[k % len(_LINES)], plot_text(head_label(head), 40)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": [x for x, _ in groups.values()],
                "y": [y for _, y in groups.values()],
                "customdata": list(groups),
                "hovertemplate": f"{name}<br>%{{customdata}}: AP %{{y:.1f}} %<extra></extra>",
                "line": {"color": color, "width": 2, "dash": _DASHES[k // len(_LINES) % len(_DASHES)]},
                "marker": {"color": color, "size": 8, "symbol": _SYMBOLS[k % len(_SYMBOLS)]},
            }
        )
    told = "; ".join(
        f"{head_label(head)}: {', '.join(f'{group} {y:.1f} %' for group, (_, y) in groups.items())}"
        for head, groups in means.items()
    )
    return Figure(
        key=_MEANS,
        title="Mean AP of the rare, the common and the frequent classes, by head",
        description=told,
        data=data,
        layout={
            "xaxis": {**_count_axis([x for groups in means.values() for x, _ in groups.values()])},
            "yaxis": {**axis("AP, %"), "rangemode": "tozero", "nticks": 6},
            "legend": {"orientation": "h", "y": -0.25, "yanchor": "top"},
            "showlegend": True,
            "margin": {**MARGIN, "t": 12},
        },
        height=340,
    )


def _points(
    key: str,
    head: str,
    points: Sequence[ClassPoint],
    each: str,
    means: dict[str, tuple[float, float]],
    up: Json,
) -> Figure:
    data: list[dict[str, Json]] = []
    for group in dict.fromkeys([*_COLORS, ""]):
        own = [point for point in points if point.group == group]
        if not own:
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text" if len(points) <= _NAMED else "markers",
                "name": f"{group} classes".strip(),
                "textposition": "top center",
                "textfont": {"size": 10, "color": FAINT},
                "x": [point.boxes for point in own],
                "y": [point.ap for point in own],
                "text": [plot_text(point.name, 14) for point in own],
                "hovertext": [plot_text(point.name) for point in own],
                "customdata": [point.tested for point in own],
                "hovertemplate": "%{hovertext}<br>%{x:,.0f} training, %{customdata:,} test boxes<br>AP %{y:.1f} %"
                "<extra></extra>",
                "marker": {"color": _COLORS.get(group, PALETTE[0]), "size": 7, "opacity": 0.75},
                "cliponaxis": False,
            }
        )
    if len(means) > 1:
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "mean",
                "x": [x for x, _ in means.values()],
                "y": [y for _, y in means.values()],
                "customdata": list(means),
                "hovertemplate": "mean of the %{customdata}: %{y:.1f} %<extra></extra>",
                "line": {"color": INK, "width": 1.5},
                "marker": {"color": INK, "size": 6, "symbol": "line-ew-open"},
            }
        )
    return Figure(
        key=key,
        title=head_label(head),
        note=", ".join(f"{group} {y:.1f} %" for group, (_, y) in means.items()),
        description=f"{head_label(head)}: {len(points)} points, one a {each}, its training boxes across, its AP "
        "up.",
        data=data,
        layout={
            "xaxis": _count_axis([point.boxes for point in points]),
            "yaxis": {**axis("AP, %"), "range": up, "nticks": 6},
            "showlegend": False,
        },
        height=280,
    )


def _count_axis(counts: Sequence[float]) -> dict[str, Json]:
    """Training boxes, logarithmic."""
    powers = range(1 + math.ceil(math.log10(max(counts, default=1.0) + 1)))
    wide = max(counts, default=1.0) > 30 * max(min(counts, default=1.0), 1)
    ticks = [step * 10**power for power in powers for step in ((1,) if wide else (1, 2, 5))]
    return {
        **axis("Training boxes"),
        "type": "log",
        "tickangle": 0,
        "tickvals": ticks,
        "ticktext": [f"{tick:,}" for tick in ticks],
    }
