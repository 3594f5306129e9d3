"""The figures of a detector's page: the AP of the classes against their training boxes."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bisector.detection.evaluation.scores import FREQUENCIES
from bisector.report.detection_run import (
    DetectionRun,
    by_head,
    class_ap,
    class_groups,
    same_data,
    training_boxes,
)
from bisector.report.parts import (
    ACCENT,
    DASHES,
    FAINT,
    INK,
    MARGIN,
    PALETTE,
    WARM,
    Figure,
    Json,
    axis,
    log_ticks,
    scatter,
)
from bisector.report.words import head_label, plot_text, short_names

_NAMED = 10  # classes; of more, names would cover the points
_COLORS = {"rare": WARM, "common": FAINT, "frequent": ACCENT, "": PALETTE[0]}
_LINES = ("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#94a4a2", "#a96b59")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")

Means = Mapping[str, tuple[float, float]]
"""By group, the geometric mean of the training boxes and the mean AP in percent."""


class _Point(NamedTuple):
    """A class of a head, or of one of its seeds."""

    name: str
    group: str
    boxes: float  # in training
    tested: int
    ap: float  # %


def count_figures(runs: Sequence[DetectionRun]) -> list[Figure]:
    """AP against the number of training boxes: the groups' means of all heads, then a point a class for each head.

    None where the training boxes are not known or all classes have as many.
    """
    # Where the seeds of a head differ in the boxes of a class, each has points of its own.
    parts = {
        head: [own] if len(same_data(own)) == len(own) else [[run] for run in own]
        for head, own in by_head(runs).items()
    }
    heads = {head: [point for part in own for point in _class_points(part)] for head, own in parts.items()}
    every = [point for points in heads.values() for point in points if point.boxes > 0]
    if len({point.boxes for point in every}) < 2:
        return []
    means = {head: _group_means([_class_points(part) for part in own]) for head, own in parts.items()}
    up: Json = [-3, min(103.0, 1.1 * max(point.ap for point in every) + 3)]
    figures = [_mean_lines(means)] if len(heads) > 1 and any(means.values()) else []
    for k, (head, points) in enumerate(heads.items()):
        each = "class of each seed" if len(parts[head]) > 1 else "class"
        drawn = [point for point in points if point.boxes > 0]
        figures.append(_points_figure(f"count-ap-{k}", head, drawn, each, means[head], up))
    return figures


def _class_points(runs: Sequence[DetectionRun]) -> list[_Point]:
    """The classes that have an AP, the mean over the runs."""
    scores, aps = runs[0].scores, [100 * ap for ap in class_ap(runs)]
    columns = (scores.class_names, class_groups(runs), training_boxes(runs), scores.class_boxes, aps)
    return [point for point in map(_Point._make, zip(*columns, strict=True)) if math.isfinite(point.ap)]


def _group_means(parts: Sequence[Sequence[_Point]]) -> Means:
    """The means of the groups that have training boxes, averaged over the parts."""
    means = {}
    for group in FREQUENCIES:
        held = [[point for point in points if point.group == group] for points in parts]
        logs = [[math.log(point.boxes) for point in points if point.boxes > 0] for points in held]
        found = [
            (statistics.fmean(own), statistics.fmean(point.ap for point in points))
            for own, points in zip(logs, held, strict=True)
            if own
        ]
        if found:
            boxes, ap = map(statistics.fmean, zip(*found, strict=True))
            means[group] = math.exp(boxes), ap
    return means


def _told(means: Means) -> str:
    return ", ".join(f"{group} {ap:.1f} %" for group, (_, ap) in means.items())


def _line(means: Means, name: str, hover: str, **look: Json) -> dict[str, Json]:
    boxes, aps = [x for x, _ in means.values()], [y for _, y in means.values()]
    more: dict[str, Json] = {
        "name": name,
        "customdata": list(means),
        "hovertemplate": f"{hover}<extra></extra>",
    }
    return scatter("lines+markers", boxes, aps, **more, **look)


def _mean_lines(means: Mapping[str, Means]) -> Figure:
    lines = []
    for k, (head, groups) in enumerate(means.items()):
        color, name = _LINES[k % len(_LINES)], plot_text(head_label(head), 40)
        line = _line(
            groups,
            name,
            f"{name}<br>%{{customdata}}: AP %{{y:.1f}} %",
            line={"color": color, "width": 2, "dash": DASHES[k // len(_LINES) % len(DASHES)]},
            marker={"color": color, "size": 8, "symbol": _SYMBOLS[k % len(_SYMBOLS)]},
        )
        lines.append(line)
    return Figure(
        "group-means",
        title="Mean AP of the rare, the common and the frequent classes, by head",
        description="; ".join(f"{head_label(head)}: {_told(groups)}" for head, groups in means.items()),
        data=lines,
        layout={
            "xaxis": _count_axis([x for groups in means.values() for x, _ in groups.values()]),
            "yaxis": axis("AP, %", rangemode="tozero", nticks=6),
            "legend": {"orientation": "h", "y": -0.25, "yanchor": "top"},
            "showlegend": True,
            "margin": {**MARGIN, "t": 12},
        },
        height=340,
    )


def _points_figure(
    key: str, head: str, points: Sequence[_Point], each: str, means: Means, up: Json
) -> Figure:
    traces = []
    names = list(dict.fromkeys(point.name for point in points))
    brief = dict(zip(names, short_names(names, 14), strict=True))
    for group, color in _COLORS.items():
        if own := [point for point in points if point.group == group]:
            trace = scatter(
                "markers+text" if len(points) <= _NAMED else "markers",
                [point.boxes for point in own],
                [point.ap for point in own],
                name=f"{group} classes".strip(),
                text=[plot_text(brief[point.name]) for point in own],
                hovertext=[plot_text(point.name) for point in own],
                customdata=[point.tested for point in own],
                hovertemplate="%{hovertext}<br>%{x:,.0f} training, %{customdata:,} test boxes<br>AP %{y:.1f} %"
                "<extra></extra>",
                marker={"color": color, "size": 7, "opacity": 0.75},
                textposition="top center",
                textfont={"size": 10, "color": FAINT},
                cliponaxis=False,
            )
            traces.append(trace)
    if len(means) > 1:
        marker: Json = {"color": INK, "size": 6, "symbol": "line-ew-open"}
        hover = "mean of the %{customdata}: %{y:.1f} %"
        traces.append(_line(means, "mean", hover, line={"color": INK, "width": 1.5}, marker=marker))
    label = head_label(head)
    return Figure(
        key,
        title=label,
        note=_told(means),
        description=f"{label}: {len(points)} points, one a {each}, its training boxes across, its AP up.",
        data=traces,
        layout={
            "xaxis": _count_axis([point.boxes for point in points]),
            "yaxis": axis("AP, %", range=up, nticks=6),
            "showlegend": False,
        },
        height=280,
    )


def _count_axis(counts: Sequence[float]) -> dict[str, Json]:
    """Training boxes, logarithmic."""
    most, least = max(counts, default=1.0), min(counts, default=1.0)
    steps = (1,) if most > 30 * max(least, 1) else (1, 2, 5)
    powers = range(1 + math.ceil(math.log10(most + 1)))
    ticks = log_ticks([step * 10**power for power in powers for step in steps])
    return axis("Training boxes", tickangle=0, **ticks)
