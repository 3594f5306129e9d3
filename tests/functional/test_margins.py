import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bisector.errors import ArgumentError
from bisector.functional.margins import (
    Margin,
    PairwiseMargin,
    TargetRule,
    additive_angle,
    additive_cosine,
    combined,
)

COSINES = torch.linspace(-1, 1, 4001, dtype=torch.float64)
ROUNDING = 1e-13


def target_scores(rule: TargetRule) -> Tensor:
    return rule(COSINES, torch.zeros(len(COSINES), dtype=torch.long))


@given(st.floats(0, math.pi))
def test_arcface_never_falls_over_the_whole_circle(m: float) -> None:
    assert (target_scores(additive_angle(m)).diff() >= -ROUNDING).all()


@given(st.floats(0.01, 4), st.floats(-math.pi, math.pi), st.floats(-1, 1))
def test_combined_margin_never_falls_over_the_whole_circle(m1: float, m2: float, m3: float) -> None:
    assert (target_scores(combined(m1, m2, m3)).diff() >= -ROUNDING).all()


@given(st.floats(0, 2), st.floats(0.1, 4))
def test_additive_cosine_never_falls(m: float, divisor: float) -> None:
    assert (target_scores(additive_cosine(m, divisor)).diff() >= 0).all()


@given(st.floats(0, 5 * math.pi), st.sampled_from(["relax", "press"]))
def test_a_competitor_never_falls_and_moves_the_way_its_direction_says(m: float, direction: str) -> None:
    pairwise = PairwiseMargin(torch.tensor([m, 0.0]), torch.tensor([m, 0.0]), direction)
    scores = torch.stack([torch.zeros_like(COSINES), COSINES], dim=1)
    labels = torch.zeros(len(COSINES), dtype=torch.long)
    moved = Margin(pairwise=pairwise)(scores, labels)[:, 1]
    assert (moved.diff() >= -10 * ROUNDING).all()
    away = moved - COSINES if direction == "press" else COSINES - moved
    assert (away >= -10 * ROUNDING).all()
    if m > 0.01:
        assert (away > 0)[1:-1].all()
    # A competitor that holds more than the true class is left alone.
    untouched = Margin(pairwise=pairwise)(scores.flip(1), labels + 1)[:, 0]
    torch.testing.assert_close(untouched, COSINES, rtol=0, atol=0)


def test_the_pairwise_matrix_is_its_two_vectors() -> None:
    r, c = torch.tensor([0.5, 0.1, 0.3]), torch.tensor([0.2, 0.0, 0.4])
    expected = [[max(0.0, float(r[i] - c[j])) for j in range(3)] for i in range(3)]
    pairwise = PairwiseMargin(r, c)
    torch.testing.assert_close(pairwise.matrix(), torch.tensor(expected))
    labels = torch.tensor([2, 0])
    torch.testing.assert_close(pairwise.towards(labels), pairwise.matrix()[labels])
    torch.testing.assert_close(PairwiseMargin(r, c, "press").towards(labels), -pairwise.matrix()[labels])
    assert pairwise.to("cpu", torch.float64).r.dtype == torch.float64


def test_a_class_with_the_least_r_and_the_greatest_c_takes_no_part() -> None:
    g = torch.tensor([0.0, 0.4, 0.1, 0.7])
    r, c = g.clone(), g.clone()
    r[2], c[2] = g.min(), g.max()
    matrix = PairwiseMargin(r, c).matrix()
    assert (matrix[2] == 0).all()
    assert (matrix[:, 2] == 0).all()
    others = torch.tensor([0, 1, 3])
    torch.testing.assert_close(matrix[others][:, others], PairwiseMargin(g, g).matrix()[others][:, others])


def test_parts_of_a_margin_apply_in_the_documented_order() -> None:
    scores = torch.tensor([[0.5, -0.2, 0.1], [0.3, 0.6, -0.4]], dtype=torch.float64)
    labels = torch.tensor([0, 2])
    margin = Margin(
        target=additive_cosine(0.1, 2.0),
        pairwise=PairwiseMargin(torch.tensor([0.3, 0.0, 0.2]), torch.tensor([0.3, 0.0, 0.2])),
        competitor_shift=0.05,
        custom=lambda cos, y, j: torch.where(j == y, cos / 2, cos * 0.9),
    )
    moved = margin(scores, labels)
    for row, y in enumerate(labels.tolist()):
        for j in range(3):
            if j == y:
                expected = (float(scores[row, j]) / 2 - 0.1) / 2
            else:
                m = max(0.0, float(margin.pairwise.r[y] - margin.pairwise.c[j]))
                expected = math.cos(math.acos(0.9 * float(scores[row, j])) + m) + 0.05
            assert float(moved[row, j]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("r", "c", "direction", "words"),
    [
        (torch.zeros(3), torch.zeros(2), "relax", ["r and c", "(3,)", "(2,)", "same length"]),
        (torch.zeros(2, 2), torch.zeros(2, 2), "relax", ["r and c", "(2, 2)", "(C,)"]),
        (torch.zeros(2), torch.zeros(2), "pres", ["direction", "'pres'", "did you mean 'press'", "relax"]),
    ],
)
def test_bad_pairwise_margins_are_named(r: Tensor, c: Tensor, direction: str, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as raised:
        PairwiseMargin(r, c, direction)
    assert all(word in str(raised.value) for word in words)
