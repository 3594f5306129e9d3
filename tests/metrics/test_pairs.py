import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.metrics import pairs
from bisector.metrics.pairs import STEPS, pair_scores


def by_hand(x: torch.Tensor, labels: torch.Tensor) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = x[i].double().numpy(), x[j].double().numpy()
        cosine = np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
        found[int(labels[i] != labels[j])].append(float(cosine))
    return sorted(found[0]), sorted(found[1])


@given(st.integers(0, 40), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([2, 7, 2048]))
def test_every_pair_counts_once_whatever_the_blocks(rows, classes, seed, block):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator)
    labels = torch.randint(-2, classes - 2, (rows,), generator=generator)
    before, pairs._BLOCK = pairs._BLOCK, block
    try:
        held, counted = pair_scores(x, labels), pair_scores(x, labels, exact_pairs=0)
    finally:
        pairs._BLOCK = before
    for scores, counts, expected in zip(held, counted, by_hand(x, labels), strict=True):
        assert scores.total == counts.total == len(expected)
        assert scores.values.tolist() == pytest.approx(expected, abs=1e-6)
        if counts.counts is not None:
            repeated = counts.values.repeat_interleave(counts.counts).tolist()
            assert repeated == pytest.approx(expected, abs=0.5 / STEPS + 3e-7)
            assert all((value * STEPS).is_integer() for value in repeated)


def test_the_length_of_an_embedding_does_not_count_and_one_without_a_direction_has_cosine_0():
    x = torch.tensor([[1e-20, 0.0], [1e20, 0.0], [0.0, 0.0]], dtype=torch.float64)
    genuine, impostor = pair_scores(x, torch.tensor([1, 1, 2]))
    assert genuine.values.tolist() == [1.0]
    assert impostor.values.tolist() == [0.0, 0.0]


def test_half_precision_is_read_as_it_is():
    x = torch.randn(30, 8).bfloat16()
    labels = torch.arange(30) % 4
    for half, full in zip(pair_scores(x, labels), pair_scores(x.double(), labels), strict=True):
        assert torch.equal(half.values, full.values)


@pytest.mark.parametrize(
    ("x", "labels", "told"),
    [
        (torch.zeros(4), torch.zeros(4).long(), r"embeddings: got shape \(4,\)"),
        (torch.zeros(4, 2), torch.zeros(3).long(), r"labels: got shape \(3,\)"),
        (torch.zeros(4, 2), torch.zeros(4), "labels: got torch.float32"),
        (torch.full((2, 2), torch.nan), torch.zeros(2).long(), "embeddings: got NaN"),
    ],
)
def test_mistakes_are_named(x, labels, told):
    with pytest.raises(ArgumentError, match=told):
        pair_scores(x, labels)
