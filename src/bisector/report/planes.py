"""What two-dimensional embeddings look like: the clouds of the classes and the boundaries between them."""

import math
import random
from collections.abc import Sequence

from bisector.report.classes import MOST_NAMES, class_name
from bisector.report.figure import FAINT, INK, LINE, Figure, Trace, class_color, translucent
from bisector.report.names import head_label
from bisector.report.regions import Point, direction_arcs, linear_regions
from bisector.training.results import Comparison, Plane

_MOST_POINTS = 2000
# Radii, in units of the circle that the cloud fills.
_DIRECTIONS, _RIM, _NAMES = 1.06, (1.12, 1.2), 1.24
_NAME_LENGTH = 8


def planes(comparison: Comparison) -> list[Figure]:
    """A figure for each head that was trained with a two-dimensional embedding."""
    return [_figure(comparison, plane, f"plane-{i}") for i, plane in enumerate(comparison.planes)]


def _figure(comparison: Comparison, plane: Plane, key: str) -> Figure:
    label = head_label(plane.head)
    unit, view = _reach(plane), _view(comparison)
    if plane.bias is None:
        boundaries = _arcs(comparison, plane)
        regions = "a coloured rim shows which class owns which directions"
    else:
        boundaries = _regions(comparison, plane, plane.bias, unit, view)
        regions = "coloured regions show which class owns which part of the plane"
    return Figure(
        key=key,
        title=f"{label}: {100 * plane.accuracy:.1f} % correct in two dimensions",
        description=f"The test embeddings of {label} in two dimensions, one colour a class, with a ray for "
        f"the weight vector of each class; {regions}.",
        data=[*boundaries, *_clouds(comparison, plane, unit), *_weights(comparison, plane)],
        layout={
            "xaxis": {"visible": False, "range": [-view, view], "constrain": "domain"},
            "yaxis": {"visible": False, "range": [-view, view], "scaleanchor": "x", "constrain": "domain"},
            "showlegend": False,
            "hovermode": "closest",
            "shapes": [
                {"type": "circle", "x0": -1, "y0": -1, "x1": 1, "y1": 1, "line": {"color": LINE, "width": 1}}
            ],
        },
    )


def _reach(plane: Plane) -> float:
    """The length that the unit circle stands for: a few long embeddings shall not shrink all the others."""
    lengths = sorted(length for x, y in plane.points if math.isfinite(length := math.hypot(x, y)))
    return (lengths[int(0.98 * (len(lengths) - 1))] if lengths else 0.0) or 1.0


def _view(comparison: Comparison) -> float:
    """Half the side of the square that is shown: room for the names beside the rim."""
    return _NAMES + 0.1 + 0.06 * min(_NAME_LENGTH, max(map(len, comparison.class_names)))


def _arcs(comparison: Comparison, plane: Plane) -> list[Trace]:
    """A thin ray along each bisector, and on the rim the colour of the class that owns the directions."""
    inner, outer = _RIM
    arcs = direction_arcs(plane.weights)
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "visible": len(arcs) <= MOST_NAMES,
            "x": [x for arc in arcs for x in (0, inner * math.cos(arc.start), None)],
            "y": [y for arc in arcs for y in (0, inner * math.sin(arc.start), None)],
            "line": {"color": FAINT, "width": 1, "dash": "dash"},
            "hoverinfo": "skip",
        }
    ]
    for arc in arcs:
        steps = max(2, math.ceil(math.degrees(arc.end - arc.start) / 3))
        angles = [arc.start + (arc.end - arc.start) * i / steps for i in range(steps + 1)]
        corners = [(outer, a) for a in angles] + [(inner, a) for a in reversed(angles)]
        traces.append(
            _area(
                comparison, arc.label, [(r * math.cos(a), r * math.sin(a)) for r, a in corners], opacity=0.85
            )
        )
    return traces


def _regions(
    comparison: Comparison, plane: Plane, bias: Sequence[float], unit: float, view: float
) -> list[Trace]:
    """The part of the plane that each class owns, lightly in its colour."""
    regions = linear_regions(plane.weights, bias, view * unit)
    return [
        _area(comparison, c, [(x / unit, y / unit) for x, y in polygon], opacity=0.16)
        for c, polygon in regions.items()
    ]


def _area(comparison: Comparison, label: int, corners: Sequence[Point], opacity: float) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for x, _ in corners],
        "y": [y for _, y in corners],
        "fill": "toself",
        "fillcolor": translucent(class_color(label), opacity),
        "line": {"color": FAINT, "width": 0.5},
        "hoveron": "fills",
        "hoverinfo": "text",
        "text": f"predicted {class_name(comparison, label)}",
    }


def _clouds(comparison: Comparison, plane: Plane, unit: float) -> list[Trace]:
    """The embeddings, and on a ring around them their directions."""
    chosen: Sequence[int] = range(len(plane.points))
    if len(chosen) > _MOST_POINTS:
        chosen = sorted(random.Random(0).sample(chosen, _MOST_POINTS))
    points = [plane.points[i] for i in chosen]
    labels = [plane.labels[i] for i in chosen]
    traces: list[Trace] = []
    for scales, opacity in (
        ([1 / unit] * len(points), 0.65),
        ([_DIRECTIONS / (math.hypot(*point) or math.nan) for point in points], 0.3),
    ):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [scale * x for scale, (x, _) in zip(scales, points, strict=True)],
                "y": [scale * y for scale, (_, y) in zip(scales, points, strict=True)],
                "marker": {"color": [class_color(c) for c in labels], "size": 4, "opacity": opacity},
                "text": [class_name(comparison, c) for c in labels],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    return traces


def _weights(comparison: Comparison, plane: Plane) -> list[Trace]:
    """A ray along each class weight, and the name of the class outside; nothing where the rays hide the points."""
    traces: list[Trace] = []
    if len(plane.weights) > MOST_NAMES:
        return traces
    for c, (x, y) in enumerate(plane.weights):
        length = math.hypot(x, y)
        if not 0 < length < math.inf:
            continue
        across, up = x / length, y / length
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+text",
                "x": [0, across, None, _NAMES * across],
                "y": [0, up, None, _NAMES * up],
                "text": ["", "", "", class_name(comparison, c, _NAME_LENGTH)],
                "textposition": _outward(across, up),
                "textfont": {"color": INK, "size": 12},
                "line": {"color": class_color(c), "width": 2},
                "name": class_name(comparison, c),
                "hovertemplate": "weight of %{fullData.name}<extra></extra>",
            }
        )
    return traces


def _outward(across: float, up: float) -> str:
    """Where a text stands that is tied to a point of the rim, so that it grows away from the rim."""
    vertical = "middle" if abs(up) < 0.35 else "top" if up > 0 else "bottom"
    horizontal = "center" if abs(across) < 0.15 else "right" if across > 0 else "left"
    return f"{vertical} {horizontal}"
