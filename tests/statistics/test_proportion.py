"""Intervals of shares, compared with scipy's own."""

import numpy as np
import pytest
from scipy.stats import binomtest

from bisector.statistics.proportion import share_interval


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_are_the_exact_ones(confidence: float) -> None:
    cases = [(k, n) for n in (1, 2, 10, 57, 4000) for k in sorted({0, 1, n // 3, n - 1, n})]
    counted, of = np.array(cases).T
    low, high = share_interval(counted, of, confidence)
    for k, (right, tested) in enumerate(cases):
        expected = binomtest(right, tested).proportion_ci(confidence, method="exact")
        assert (low[k], high[k]) == pytest.approx((expected.low, expected.high), abs=1e-12)
