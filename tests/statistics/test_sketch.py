"""Frequent Directions: what is missing is what it says, however rows come, whatever is merged."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.statistics.sketch import Sketch


def assert_bounds(sketch, rows):
    """By numpy: `-rounding I <= M2 - B^T B <= (missing + rounding) I`, and the trace is that of M2."""
    exact = rows.double().numpy()
    held = sketch.sketch.double().numpy()
    rest = np.linalg.eigvalsh(exact.T @ exact - held.T @ held)
    slack = 1e-13 * (exact**2).sum()
    assert rest[0] >= -sketch.rounding - slack
    assert rest[-1] <= sketch.missing + sketch.rounding + slack
    np.testing.assert_allclose(sketch.trace, (exact**2).sum(), rtol=1e-12)
    assert len(held) <= 2 * sketch.size


@given(
    dim=st.integers(1, 12),
    size=st.integers(1, 6),
    parts=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    decay=st.sampled_from([0.0, 0.5, 3.0]),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    seed=st.integers(0, 10**6),
)
def test_what_is_missing_is_bounded(dim, size, parts, decay, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    spectrum = scale * torch.arange(1, dim + 1).float().pow(-decay)
    rows = torch.randn(sum(parts), dim, generator=generator) * spectrum
    sketch = Sketch(dim, size)
    for part in rows.split(parts):
        sketch.add_rows_(part)
    assert_bounds(sketch, rows)
    left, right = Sketch(dim, size), Sketch(dim, size)
    half = len(rows) // 2
    left.add_rows_(rows[:half]) if half else None
    right.add_rows_(rows[half:])
    left.add_(right)
    assert_bounds(left, rows)
    left.resize_(max(1, size // 2))
    assert_bounds(left, rows)
    assert_bounds(left.scaled(0.25), rows * 0.5)


def test_the_worst_case_of_the_literature_holds():
    # Ghashami et al.: what is missing is at most the rest beyond k directions over size - k, for every k.
    rows = torch.randn(2000, 50, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, -2, 50)
    sketch = Sketch(50, 20)
    for part in rows.split(10):
        sketch.add_rows_(part)
    squares = torch.linalg.svdvals(rows.double()).square()
    assert sketch.missing <= min(float(squares[k:].sum()) / (20 - k) for k in range(20))


def test_a_copy_is_another():
    sketch = Sketch(3, 1)
    sketch.add_rows_(torch.eye(3))
    other = sketch.scaled(1)
    other.add_rows_(torch.eye(3))
    assert (sketch.trace, other.trace) == (3, 6)
    assert sketch.nbytes <= 2 * 3 * 4


def test_merging_many_adds_up_what_each_has_rounded():
    generator = torch.Generator().manual_seed(2)
    parts = [Sketch(32, 4) for _ in range(40)]
    for part in parts:
        part.add_rows_(torch.randn(8, 32, generator=generator))
    total = Sketch(32, 4)
    for part in parts:
        total.add_(part)
    # Each shrinking rounds once more, by no more than its trace's part.
    assert total.rounding <= sum(part.rounding for part in parts) + 40 * 4 * 2.0**-24 * total.trace
