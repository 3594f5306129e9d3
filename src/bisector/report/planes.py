"""What two-dimensional embeddings look like: the clouds of the classes and the boundaries between them."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from bisector.report.comparison_figures import MOST_NAMES, brief_names, class_name
from bisector.report.parts import FAINT, INK, LINE, Figure, Json, Trace, class_color, scatter
from bisector.report.words import head_label
from bisector.training.results import Comparison, Plane

_MOST_POINTS = 2000
# Radii, in units of the circle that the cloud fills.
_DIRECTIONS, _RIM, _NAMES = 1.06, (1.12, 1.2), 1.24
_NAME_LENGTH = 8

Point = tuple[float, float]


def planes(comparison: Comparison) -> list[Figure]:
    """A figure for each head that was trained with a two-dimensional embedding."""
    return [_figure(comparison, plane, f"plane-{i}") for i, plane in enumerate(comparison.planes)]


def _figure(comparison: Comparison, plane: Plane, key: str) -> Figure:
    label = head_label(plane.head)
    # The length that the unit circle stands for: a few long embeddings shall not shrink all the others.
    lengths = sorted(length for x, y in plane.points if math.isfinite(length := math.hypot(x, y)))
    unit = (lengths[int(0.98 * (len(lengths) - 1))] if lengths else 0.0) or 1.0
    # Half the side of the square that is shown: room for the names beside the rim.
    view = _NAMES + 0.1 + 0.06 * min(_NAME_LENGTH, max(map(len, comparison.class_names)))
    if plane.bias is None:
        boundaries = _arcs(comparison, plane)
        regions = "a coloured rim shows which class owns which directions"
    else:
        owned = linear_regions(plane.weights, plane.bias, view * unit)
        boundaries = [
            _area(comparison, c, [(x / unit, y / unit) for x, y in polygon], opacity=0.16)
            for c, polygon in owned.items()
        ]
        regions = "coloured regions show which class owns which part of the plane"
    side: dict[str, Json] = {"visible": False, "range": [-view, view], "constrain": "domain"}
    circle: Json = {
        "type": "circle",
        "x0": -1,
        "y0": -1,
        "x1": 1,
        "y1": 1,
        "line": {"color": LINE, "width": 1},
    }
    return Figure(
        key,
        title=f"{label}: {100 * plane.accuracy:.1f} % correct in two dimensions",
        description=f"The test embeddings of {label} in two dimensions, one colour a class, with a ray for "
        f"the weight vector of each class; {regions}.",
        data=[*boundaries, *_clouds(comparison, plane, unit), *_weights(comparison, plane)],
        layout={
            "xaxis": side,
            "yaxis": {**side, "scaleanchor": "x"},
            "showlegend": False,
            "hovermode": "closest",
            "shapes": [circle],
        },
    )


def _arcs(comparison: Comparison, plane: Plane) -> list[Trace]:
    """A thin ray along each bisector, and on the rim the colour of the class that owns the directions."""
    inner, outer = _RIM
    arcs = direction_arcs(plane.weights)
    rays = scatter(
        "lines",
        [x for arc in arcs for x in (0, inner * math.cos(arc.start), None)],
        [y for arc in arcs for y in (0, inner * math.sin(arc.start), None)],
        visible=len(arcs) <= MOST_NAMES,
        line={"color": FAINT, "width": 1, "dash": "dash"},
        hoverinfo="skip",
    )
    traces: list[Trace] = [rays]
    for arc in arcs:
        steps = max(2, math.ceil(math.degrees(arc.end - arc.start) / 3))
        angles = [arc.start + (arc.end - arc.start) * i / steps for i in range(steps + 1)]
        corners = [(outer, a) for a in angles] + [(inner, a) for a in reversed(angles)]
        rim = [(r * math.cos(a), r * math.sin(a)) for r, a in corners]
        traces.append(_area(comparison, arc.label, rim, opacity=0.85))
    return traces


def _area(comparison: Comparison, label: int, corners: Sequence[Point], opacity: float) -> Trace:
    red, green, blue = bytes.fromhex(class_color(label).removeprefix("#"))
    return scatter(
        "lines",
        [x for x, _ in corners],
        [y for _, y in corners],
        fill="toself",
        fillcolor=f"rgba({red}, {green}, {blue}, {opacity:g})",
        line={"color": FAINT, "width": 0.5},
        hoveron="fills",
        hoverinfo="text",
        text=f"predicted {class_name(comparison, label)}",
    )


def _clouds(comparison: Comparison, plane: Plane, unit: float) -> list[Trace]:
    """The embeddings, and on a ring around them their directions."""
    chosen: Sequence[int] = range(len(plane.points))
    if len(chosen) > _MOST_POINTS:
        chosen = sorted(random.Random(0).sample(chosen, _MOST_POINTS))
    points, labels = [plane.points[i] for i in chosen], [plane.labels[i] for i in chosen]
    directions = [_DIRECTIONS / (math.hypot(*point) or math.nan) for point in points]
    return [
        scatter(
            "markers",
            [scale * x for scale, (x, _) in zip(scales, points, strict=True)],
            [scale * y for scale, (_, y) in zip(scales, points, strict=True)],
            marker={"color": [class_color(c) for c in labels], "size": 4, "opacity": opacity},
            text=[class_name(comparison, c) for c in labels],
            hovertemplate="%{text}<extra></extra>",
        )
        for scales, opacity in (([1 / unit] * len(points), 0.65), (directions, 0.3))
    ]


def _weights(comparison: Comparison, plane: Plane) -> list[Trace]:
    """A ray along each class weight, and the name of the class outside; nothing where the rays hide the points."""
    traces: list[Trace] = []
    weights = plane.weights if len(plane.weights) <= MOST_NAMES else []
    names = brief_names(comparison, range(len(weights)), _NAME_LENGTH)
    for c, (x, y) in enumerate(weights):
        length = math.hypot(x, y)
        if 0 < length < math.inf:
            across, up = x / length, y / length
            # The name grows away from the rim.
            vertical = "middle" if abs(up) < 0.35 else "top" if up > 0 else "bottom"
            horizontal = "center" if abs(across) < 0.15 else "right" if across > 0 else "left"
            ray = scatter(
                "lines+text",
                [0, across, None, _NAMES * across],
                [0, up, None, _NAMES * up],
                text=["", "", "", names[c]],
                textposition=f"{vertical} {horizontal}",
                textfont={"color": INK, "size": 12},
                line={"color": class_color(c), "width": 2},
                name=class_name(comparison, c),
                hovertemplate="weight of %{fullData.name}<extra></extra>",
            )
            traces.append(ray)
    return traces


class Arc(NamedTuple):
    """The directions that one class owns, in radians, counter-clockwise from `start` to `end`."""

    label: int
    start: float
    end: float


def direction_arcs(weights: Sequence[Sequence[float]]) -> list[Arc]:
    """The arcs of the circle in which each class has the largest cosine.

    The nearest weight direction wins, so that each boundary is the bisector of two neighbouring directions.
    Weights (C, 2) whose length is zero or not finite own nothing; of equal directions the first owns all.
    Together the arcs cover the circle once, in order.

    >>> [(arc.label, round(math.degrees(arc.start)), round(math.degrees(arc.end)))
    ...  for arc in direction_arcs([[1.0, 0.0], [0.0, 2.0]])]
    [(0, -135, 45), (1, 45, 225)]
    """
    directions: dict[float, int] = {}
    for label, (x, y) in enumerate(weights):
        if 0 < math.hypot(x, y) < math.inf:
            directions.setdefault(math.atan2(y + 0.0, x), label)  # -0.0 would turn pi into -pi
    angles = sorted(directions)
    if not angles:
        return []
    circular = [angles[-1] - 2 * math.pi, *angles, angles[0] + 2 * math.pi]
    bounds = [(a + b) / 2 for a, b in pairwise(circular)]
    return [Arc(directions[a], *bounds[i : i + 2]) for i, a in enumerate(angles)]


def linear_regions(
    weights: Sequence[Sequence[float]],  # (C, 2)
    bias: Sequence[float],  # (C,)
    square: float,
) -> dict[int, list[Point]]:
    """The polygon in which each class has the largest `x · W_c + b_c`, inside `[-square, square]^2`.

    The square is cut by the half-planes `x · (W_c - W_j) + b_c - b_j >= 0` in turn (Sutherland and Hodgman
    1974). Classes that win nowhere in the square are left out, and of equal classes all but the first.

    >>> linear_regions([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0], 1.0)[0]
    [(0.0, -1.0), (1.0, -1.0), (1.0, 1.0), (0.0, 1.0)]
    """
    regions = {}
    for c, (weight, offset) in enumerate(zip(weights, bias, strict=True)):
        polygon: list[Point] = [(-square, -square), (square, -square), (square, square), (-square, square)]
        for j, (other, other_offset) in enumerate(zip(weights, bias, strict=True)):
            a, b, d = weight[0] - other[0], weight[1] - other[1], offset - other_offset
            if j < c and (a, b, d) == (0, 0, 0):
                polygon = []
            polygon = _cut(polygon, a, b, d)
        if len(polygon) > 2:
            regions[c] = polygon
    return regions


def _cut(polygon: list[Point], a: float, b: float, d: float) -> list[Point]:
    """What of a convex polygon lies where `a x + b y + d >= 0`."""
    values = [a * x + b * y + d for x, y in polygon]
    kept: list[Point] = []
    for i, ((x, y), value) in enumerate(zip(polygon, values, strict=True)):
        (x0, y0), last = polygon[i - 1], values[i - 1]
        if (value >= 0) != (last >= 0):
            share = last / (last - value)
            kept.append((x0 + share * (x - x0), y0 + share * (y - y0)))
        if value >= 0:
            kept.append((x, y))
    return kept
