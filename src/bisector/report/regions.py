"""The exact decision regions of a linear classifier in the plane."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

Point = tuple[float, float]


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
            if not polygon:
                break
        if len(polygon) > 2:
            regions[c] = polygon
    return regions


def _cut(polygon: list[Point], a: float, b: float, d: float) -> list[Point]:
    """What of a convex polygon lies where `a x + b y + d >= 0`."""
    values = [a * x + b * y + d for x, y in polygon]
    kept: list[Point] = []
    for i, (here, value) in enumerate(zip(polygon, values, strict=True)):
        before, last = polygon[i - 1], values[i - 1]
        if (value >= 0) != (last >= 0):
            share = last / (last - value)
            kept.append(
                (before[0] + share * (here[0] - before[0]), before[1] + share * (here[1] - before[1]))
            )
        if value >= 0:
            kept.append(here)
    return kept
