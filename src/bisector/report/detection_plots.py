"""The figures of a detector's page: the AP of the classes against their training boxes."""

import math
import statistics
from collections.abc import Sequence

from bisector.report.colors import PALETTE
from bisector.report.detection_classes import class_ap, class_groups, training_boxes
from bisector.report.detection_run import DetectionRun, by_head
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
    counts = training_boxes(runs)
    trained = [c for c, n in enumerate(counts) if math.isfinite(n) and n > 0]
    if len({counts[c] for c in trained}) < 2:
        return []
    heads = {head: class_ap(own) for head, own in by_head(runs).items()}
    means = {head: _group_means(runs, counts, ap) for head, ap in heads.items()}
    tops = [100 * ap[c] for ap in heads.values() for c in trained if math.isfinite(ap[c])]
    up: Json = [-3, min(103.0, 1.1 * max(tops, default=1.0) + 3)]
    figures = [_lines(means)] if len(heads) > 1 and any(means.values()) else []
    for k, (head, ap) in enumerate(heads.items()):
        figures.append(_points(f"count-ap-{k}", head, runs, counts, ap, means[head], up))
    return figures


def count_section(runs: Sequence[DetectionRun], figures: Sequence[Figure]) -> str:
    """The figures, and how to read them."""
    points = [figure for figure in figures if figure.key != _MEANS]
    lines = "".join(plot(figure) for figure in figures if figure.key == _MEANS)
    drawn = "".join(map(plot, points))
    text = "Each point is a class."
    if any(class_groups(runs)):
        text = (
            "Each point is a class: the rare ones orange, the common grey, the frequent blue. A line joins the "
            "means of the groups: the flatter it is, the less a class pays for being rare."
        )
    if 0 in training_boxes(runs):
        text += " Classes without training boxes have no point, but count in the means."
    return section(
        "counts",
        "Do the classes with few training boxes fall behind?",
        text,
        lines + (f'<div class="grid small">{drawn}</div>' if len(points) > 1 else drawn),
    )


def _group_means(
    runs: Sequence[DetectionRun], counts: Sequence[float], ap: Sequence[float]
) -> dict[str, tuple[float, float]]:
    """By group, the geometric mean of the training boxes and the mean AP in percent."""
    groups, means = class_groups(runs), {}
    for group in _COLORS:
        own = [c for c, name in enumerate(groups) if name == group and math.isfinite(ap[c])]
        trained = [math.log(counts[c]) for c in own if counts[c] > 0]
        if trained:
            means[group] = math.exp(statistics.fmean(trained)), 100 * statistics.fmean(ap[c] for c in own)
    return means


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
    runs: Sequence[DetectionRun],
    counts: Sequence[float],
    ap: Sequence[float],
    means: dict[str, tuple[float, float]],
    up: Json,
) -> Figure:
    scores, groups = runs[0].scores, class_groups(runs)
    shown = [c for c, value in enumerate(ap) if math.isfinite(value) and counts[c] > 0]
    data: list[dict[str, Json]] = []
    for group in dict.fromkeys([*_COLORS, ""]):
        own = [c for c in shown if groups[c] == group]
        if not own:
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text" if len(shown) <= _NAMED else "markers",
                "name": f"{group} classes".strip(),
                "textposition": "top center",
                "textfont": {"size": 10, "color": FAINT},
                "x": [counts[c] for c in own],
                "y": [100 * ap[c] for c in own],
                "text": [plot_text(scores.class_names[c], 14) for c in own],
                "hovertext": [plot_text(scores.class_names[c]) for c in own],
                "customdata": [scores.class_boxes[c] for c in own],
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
        description=f"{head_label(head)}: a point for each of {len(shown)} classes, its training boxes across, its "
        "AP up.",
        data=data,
        layout={
            "xaxis": _count_axis([counts[c] for c in shown]),
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
