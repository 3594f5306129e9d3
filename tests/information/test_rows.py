import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.errors import ArgumentError
from bisector.information.rows import (
    on_scale,
    places_by_class,
    require_finite,
)


def test_the_first_row_that_is_not_finite_is_named():
    x = torch.zeros(4, 2)
    require_finite("x", x)
    x[3, 0], x[2, 1] = torch.nan, -torch.inf
    with pytest.raises(ArgumentError, match="x: got NaN or infinity in row 2"):
        require_finite("x", x)


def test_scales():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-1e-30, 0.0], [0.0, 3e38]], requires_grad=True)
    raw, unit = on_scale(x[:3], "raw"), on_scale(x, "unit")
    assert (raw.dtype, unit.dtype) == (torch.float32, torch.float32)
    assert on_scale(x.double(), "unit").dtype == torch.float64
    assert not raw.requires_grad
    assert not unit.requires_grad
    torch.testing.assert_close(raw, x[:3].detach())
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0, 0], [-1, 0], [0, 1]]) * 2**0.5)


@given(st.lists(st.integers(0, 6), max_size=30))
def test_places_by_class_are_a_mask_for_each(labels):
    labels = torch.tensor(labels, dtype=torch.long)
    found = dict(places_by_class(labels))
    assert list(found) == sorted(set(labels.tolist()))
    for label, places in found.items():
        assert torch.equal(places, (labels == label).nonzero().flatten())
