import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.metrics.bias import bias, bias_corrected

fractions = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(fractions, st.integers(0, 3))
def test_bias_is_numpys_variance_in_percent_of_the_classes_with_a_score(scores, absent):
    known = torch.tensor(scores, dtype=torch.float64)
    with_gaps = torch.cat([known, torch.full((absent,), torch.nan)])
    counts = torch.full_like(with_gaps, 30)
    assert bias(with_gaps).item() == pytest.approx(np.var(100 * np.array(scores)), abs=1e-9)
    assert bias_corrected(with_gaps, counts) == bias_corrected(known, counts[: len(known)])


def test_no_class_left_gives_nan():
    assert bias(torch.tensor([torch.nan])).isnan()
    assert bias_corrected(torch.tensor([0.5, torch.nan]), torch.tensor([1, 5])).isnan()


@pytest.mark.parametrize(
    ("truth", "counts"), [((0.3, 0.8), (3, 5)), ((0.5, 0.5, 0.9), (2, 4, 3)), ((0.6,), (4,))]
)
def test_correction_is_unbiased_over_every_outcome(truth, counts):
    # All possible numbers of correct answers, weighted with their exact probability.
    expectation = 0.0
    for correct in itertools.product(*(range(n + 1) for n in counts)):
        probability = math.prod(
            math.comb(n, k) * p**k * (1 - p) ** (n - k)
            for n, k, p in zip(counts, correct, truth, strict=True)
        )
        scores = torch.tensor(correct, dtype=torch.float64) / torch.tensor(counts)
        expectation += probability * bias_corrected(scores, torch.tensor(counts)).item()
    assert expectation == pytest.approx(np.var(100 * np.array(truth)), abs=1e-9)


def test_equal_scores_correct_to_below_zero():
    assert bias_corrected(torch.tensor([0.5, 0.5]), torch.tensor([10, 10])) < 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bias(torch.tensor([50.0])), r"class_scores: got \[50.0\]; expected fractions"),
        (lambda: bias(torch.ones(2, 2)), r"class_scores: got shape \(2, 2\)"),
        (lambda: bias_corrected(torch.ones(2), torch.ones(3)), r"test_counts: got shape \(3,\)"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
