import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bisector.errors import ArgumentError
from bisector.information.volume import effective_rank


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_it_is_scipys_entropy(values):
    rank = effective_rank(torch.tensor(values, dtype=torch.float64)).item()
    assert rank == pytest.approx(np.exp(stats.entropy(values)), rel=1e-10)
    assert 1 - 1e-12 <= rank <= len(values) * (1 + 1e-12)


def test_known_values():
    assert effective_rank(torch.tensor([0.0, 0.0, 5.0])).item() == 1
    assert effective_rank(torch.full((7,), 1e-20)).item() == pytest.approx(7)
    assert effective_rank(torch.zeros(4)).item() == 0


def test_complaints():
    with pytest.raises(ArgumentError, match="eigenvalues: got"):
        effective_rank(torch.tensor([-1.0, 2.0]))
