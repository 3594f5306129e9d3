import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bisector.report.planes import direction_arcs, linear_regions

seeds = st.integers(0, 2**32 - 1)


def inside(polygon: list[tuple[float, float]], point: np.ndarray) -> bool:
    # Convex and counter-clockwise: the point lies to the left of every edge.
    for (ax, ay), (bx, by) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) < -1e-9:
            return False
    return True


@settings(deadline=None)
@given(seeds, st.integers(1, 12))
def test_the_arc_of_a_direction_is_of_the_class_with_the_largest_cosine(seed, classes):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(classes, 2)) * rng.lognormal(size=(classes, 1))
    arcs = direction_arcs(weights.tolist())
    units = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    for angle in rng.uniform(-math.pi, math.pi, 50):
        owners = [
            arc.label
            for arc in arcs
            for turn in (-2 * math.pi, 0, 2 * math.pi)
            if arc.start <= angle + turn < arc.end
        ]
        cosines = units @ [math.cos(angle), math.sin(angle)]
        top = np.sort(cosines)[-2:]
        if len(top) < 2 or top[1] - top[0] > 1e-9:
            assert owners == [cosines.argmax()]


@settings(deadline=None)
@given(seeds, st.integers(1, 12))
def test_arcs_cover_the_circle_once(seed, classes):
    arcs = direction_arcs(np.random.default_rng(seed).normal(size=(classes, 2)).tolist())
    assert sum(arc.end - arc.start for arc in arcs) == pytest.approx(2 * math.pi)
    for before, after in pairwise(arcs):
        assert before.end == pytest.approx(after.start)


def test_weights_without_a_direction_own_nothing():
    weights = [[0.0, 0.0], [math.nan, 1.0], [math.inf, 0.0], [0.0, 3.0], [0.0, 7.0]]
    (arc,) = direction_arcs(weights)
    assert arc.label == 3
    assert arc.end - arc.start == pytest.approx(2 * math.pi)
    assert direction_arcs([[0.0, 0.0]]) == []


def test_minus_zero_is_zero():
    (arc,) = direction_arcs([[-1.0, 0.0], [-1.0, -0.0]])
    assert arc.label == 0


@settings(deadline=None)
@given(seeds, st.integers(1, 12))
def test_the_region_of_a_point_is_of_the_class_with_the_largest_score(seed, classes):
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(classes, 2)), rng.normal(size=classes)
    regions = linear_regions(weights.tolist(), bias.tolist(), 3.0)
    for point in rng.uniform(-3, 3, (50, 2)):
        scores = np.sort(weights @ point + bias)[-2:]
        if len(scores) == 2:
            assume(scores[1] - scores[0] > 1e-6)
        owners = [c for c, polygon in regions.items() if inside(polygon, point)]
        assert owners == [(weights @ point + bias).argmax()]


@settings(deadline=None)
@given(seeds, st.integers(1, 12))
def test_regions_cover_the_square_once(seed, classes):
    rng = np.random.default_rng(seed)
    regions = linear_regions(rng.normal(size=(classes, 2)).tolist(), rng.normal(size=classes).tolist(), 3.0)
    area = 0.0
    for polygon in regions.values():
        x, y = np.array(polygon).T
        area += (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    assert area == pytest.approx(36)


def test_equal_classes_are_drawn_once():
    assert list(linear_regions([[1.0, 2.0]] * 3, [0.5] * 3, 1.0)) == [0]
