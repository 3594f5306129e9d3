"""Intervals of shares, compared with scipy's own."""

import pytest
from scipy.stats import binomtest

from bisector.statistics.proportion import wilson


@pytest.mark.parametrize("rows", [1, 2, 10, 57, 4000])
def test_intervals_are_scipys(rows: int) -> None:
    for hits in {0, 1, rows // 3, rows - 1, rows}:
        found = wilson(hits, rows)
        expected = binomtest(hits, rows).proportion_ci(0.95, method="wilson")
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
