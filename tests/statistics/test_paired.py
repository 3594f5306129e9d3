import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bisector.errors import ArgumentError
from bisector.statistics.paired import paired_difference


@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0.5, 0.999))
def test_the_interval_is_that_of_the_paired_t_test(seed: int, pairs: int, level: float) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, pairs)) * random.lognormal() + 3
    found = paired_difference(torch.tensor(x), torch.tensor(y), level)
    oracle = stats.ttest_rel(x, y).confidence_interval(level)
    assert found.mean == pytest.approx(np.mean(x - y), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(oracle), rel=1e-9, abs=1e-12)
    assert found.pairs == pairs
    assert found.clear == (stats.ttest_rel(x, y).pvalue < 1 - level)


def test_what_a_pair_shares_drops_out() -> None:
    """The same differences on draws that are far apart: the interval is no wider."""
    draws = torch.tensor([0.0, 100.0, -50.0, 7.0], dtype=torch.float64)
    better = draws + torch.tensor([1.0, 2.0, 1.5, 1.5])
    found = paired_difference(better, draws)
    alone = paired_difference(torch.tensor([1.0, 2.0, 1.5, 1.5]), torch.zeros(4))
    assert found == pytest.approx(alone)
    assert found.clear


def test_one_pair_has_no_interval_and_none_has_no_mean() -> None:
    one = paired_difference(torch.tensor([3.0]), torch.tensor([1.0]))
    assert one.mean == 2
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert not one.clear
    none = paired_difference(torch.empty(0), torch.empty(0))
    assert math.isnan(none.mean)
    assert none.pairs == 0


def test_pairs_with_a_gap_are_dropped() -> None:
    x = torch.tensor([1.0, math.nan, 3.0, 4.0])
    y = torch.tensor([0.0, 2.0, math.nan, 1.0])
    assert paired_difference(x, y) == paired_difference(torch.tensor([1.0, 4.0]), torch.tensor([0.0, 1.0]))


def test_equal_sides_are_zero_and_not_clear() -> None:
    x = torch.tensor([1.0, 2.0])
    assert paired_difference(x, x) == (0, 0, 0, 2)
    assert not paired_difference(x, x).clear


@pytest.mark.parametrize(
    ("x", "y", "level", "told"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 2), 0.95, r"x: got shape \(2, 2\)"),
        (torch.zeros(2), torch.zeros(3), 0.95, r"y: got shape \(3,\); expected the shape of x, \(2,\)"),
        (torch.zeros(2), torch.tensor([0.0, math.inf]), 0.95, "x, y: got an infinite value"),
        (torch.zeros(2), torch.zeros(2), 0, "level: got 0; expected a number between 0 and 1"),
        (torch.zeros(2), torch.zeros(2), 95, "level: got 95"),
        (torch.zeros(2), torch.zeros(2), math.nan, "level: got nan"),
    ],
)
def test_mistakes_are_told(x: torch.Tensor, y: torch.Tensor, level: float, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        paired_difference(x, y, level)
