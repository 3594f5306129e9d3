import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bisector.statistics.correlation import partial_correlation
from bisector.statistics.weighted import weighted_correlations, weighted_partial, weighted_spearman


def drawn(seed, rows, sets=6):
    rng = np.random.default_rng(seed)
    picks = rng.integers(rows, size=(sets, rows))
    weights = np.stack([np.bincount(row, minlength=rows) for row in picks])
    return rng, picks, torch.tensor(weights, dtype=torch.float64)


@given(st.integers(0, 10_000), st.integers(6, 60), st.sampled_from([1.0, 1e6, 1e-6]))
@settings(max_examples=40, deadline=None)
def test_weights_are_rows_repeated(seed, rows, unit):
    rng, picks, weights = drawn(seed, rows)
    columns = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, 3)) * unit + unit
    found = weighted_correlations(weights, torch.tensor(columns))
    partial = weighted_partial(found)
    for k, pick in enumerate(picks):
        if len(set(pick)) < 5:
            continue
        repeated = columns[pick]
        np.testing.assert_allclose(found[k], np.corrcoef(repeated.T), atol=1e-7)
        expected = partial_correlation(*torch.tensor(repeated).T).item()
        assert partial[k].item() == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 10_000), st.integers(4, 60), st.sampled_from([0, 3, 1000]))
@settings(max_examples=40, deadline=None)
def test_weighted_ranks_are_scipys_on_rows_repeated(seed, rows, levels):
    rng, picks, weights = drawn(seed, rows)
    x, y = rng.normal(size=(2, rows))
    if levels:  # ties of the rows themselves
        x = np.round(x * levels) / levels
    found = weighted_spearman(weights, torch.tensor(x), torch.tensor(y))
    for k, pick in enumerate(picks):
        if len(set(x[pick])) < 2 or len(set(y[pick])) < 2:
            assert found[k].isnan()
        else:
            expected = stats.spearmanr(x[pick], y[pick]).statistic
            assert found[k].item() == pytest.approx(expected, abs=1e-10)


def test_a_resample_of_one_row_has_no_correlation():
    weights = torch.tensor([[4.0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.float64)
    x, y, z = torch.randn(3, 4, dtype=torch.float64) + 1e4
    found = weighted_correlations(weights, torch.stack([x, y, z], dim=1))
    assert found[0].isnan().all()
    assert weighted_partial(found)[0].isnan()
    assert weighted_spearman(weights, x, y)[0].isnan()
    assert found[1].isfinite().all()


def test_what_does_not_move_holds_nothing_fixed():
    x, y = torch.randn(2, 30, dtype=torch.float64)
    ones = torch.ones(1, 30, dtype=torch.float64)
    found = weighted_correlations(ones, torch.stack([x, y, torch.full_like(x, 7.0)], dim=1))
    assert weighted_partial(found)[0] == found[0, 0, 1]
