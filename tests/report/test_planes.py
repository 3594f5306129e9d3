import math
from dataclasses import replace

import numpy as np
import pytest

from bisector.report.figure import PALETTE, class_color
from bisector.report.planes import planes


def traces(figure, mode):
    return [trace for trace in figure.data if trace["mode"] == mode]


def test_a_figure_a_plane_of_equal_aspect(comparison):
    figures = planes(comparison)
    assert [figure.key for figure in figures] == ["plane-0", "plane-1", "plane-2", "plane-3"]
    assert figures[0].title == "Softmax: 71.0 % correct in two dimensions"
    for figure in figures:
        assert figure.height is None
        assert figure.layout["yaxis"]["scaleanchor"] == "x"
        assert figure.layout["yaxis"]["range"] == figure.layout["xaxis"]["range"]


def test_points_are_drawn_to_scale_and_as_directions(comparison):
    for plane, figure in zip(comparison.planes, planes(comparison), strict=True):
        cloud, directions = traces(figure, "markers")
        points = np.array(plane.points)
        drawn = np.column_stack([cloud["x"], cloud["y"]])
        ratio = np.linalg.norm(drawn, axis=1) / np.linalg.norm(points, axis=1)
        np.testing.assert_allclose(ratio, ratio[0])
        assert (np.linalg.norm(drawn, axis=1) <= 1 + 1e-9).mean() == pytest.approx(0.98, abs=0.01)
        np.testing.assert_allclose(
            np.arctan2(directions["y"], directions["x"]), np.arctan2(*points.T[::-1]), atol=1e-12
        )
        np.testing.assert_allclose(np.hypot(directions["x"], directions["y"]), 1.06)
        assert cloud["marker"]["color"] == [class_color(label) for label in plane.labels]


def test_boundaries_of_a_cosine_head_are_bisectors(comparison):
    plane, figure = comparison.planes[1], planes(comparison)[1]
    rays = traces(figure, "lines")[0]
    weights = np.array(plane.weights)
    units = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    for x, y in zip(rays["x"][1::3], rays["y"][1::3], strict=True):
        cosines = np.sort(units @ [x, y])
        assert cosines[-1] == pytest.approx(cosines[-2])


def test_the_rim_has_the_colour_of_the_predicted_class(comparison):
    plane, figure = comparison.planes[2], planes(comparison)[2]
    weights = np.array(plane.weights)
    units = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    for area in traces(figure, "lines")[1:]:
        middle = np.array([np.mean(area["x"]), np.mean(area["y"])])
        predicted = (units @ middle).argmax()
        assert area["text"] == f"predicted {predicted}"
        red, green, blue = bytes.fromhex(PALETTE[predicted][1:])
        assert area["fillcolor"] == f"rgba({red}, {green}, {blue}, 0.85)"


def test_regions_of_a_head_with_a_bias_hold_the_points_they_win(comparison):
    plane, figure = comparison.planes[0], planes(comparison)[0]
    points, weights = np.array(plane.points), np.array(plane.weights)
    cloud = traces(figure, "markers")[0]
    unit = points[0, 0] / cloud["x"][0]
    for area in traces(figure, "lines"):
        corners = unit * np.column_stack([area["x"], area["y"]])
        scores = corners.mean(axis=0) @ weights.T + plane.bias
        assert area["text"] == f"predicted {scores.argmax()}"


def test_rays_end_on_the_circle_under_the_names(comparison):
    for plane, figure in zip(comparison.planes, planes(comparison), strict=True):
        rays = traces(figure, "lines+text")
        for weight, ray, name in zip(plane.weights, rays, comparison.class_names, strict=True):
            assert ray["text"][-1] == name
            assert math.hypot(ray["x"][1], ray["y"][1]) == pytest.approx(1)
            assert math.atan2(ray["y"][1], ray["x"][1]) == pytest.approx(math.atan2(*weight[::-1]))


def test_a_diverged_plane_is_drawn_as_far_as_it_goes(comparison):
    nan = [math.nan, math.nan]
    plane = comparison.planes[1]
    diverged = replace(plane, points=[nan] * len(plane.points), weights=[nan] * 10)
    zero = replace(plane, points=[[0.0, 0.0]] * len(plane.points), weights=[[0.0, 0.0]] * 10)
    for figure in planes(replace(comparison, planes=[diverged, zero])):
        assert not traces(figure, "lines+text")


def test_many_points_are_sampled_and_many_rays_left_out(comparison):
    rng = np.random.default_rng(0)
    plane = replace(
        comparison.planes[1],
        points=rng.normal(size=(5000, 2)).tolist(),
        labels=rng.integers(0, 50, 5000).tolist(),
        weights=rng.normal(size=(50, 2)).tolist(),
    )
    (figure,) = planes(replace(comparison, planes=[plane], class_names=[str(i) for i in range(50)]))
    assert [len(trace["x"]) for trace in traces(figure, "markers")] == [2000, 2000]
    assert not traces(figure, "lines+text")
    assert figure == planes(replace(comparison, planes=[plane], class_names=[str(i) for i in range(50)]))[0]
