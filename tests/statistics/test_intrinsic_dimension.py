"""The intrinsic dimension of clouds whose dimension is known."""

import math

import pytest
import torch

from bisector.errors import ArgumentError
from bisector.statistics.intrinsic_dimension import intrinsic_dimension


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_it_is_that_of_the_subspace_whatever_the_dimension_around(dim: int) -> None:
    draw = torch.Generator().manual_seed(0)
    cloud = torch.rand(3000, dim, generator=draw, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(20, 20, generator=draw, dtype=torch.float64)).Q[:dim]
    found = intrinsic_dimension(7 + 3 * cloud @ turned)
    assert found == pytest.approx(dim, rel=0.12)
    torch.testing.assert_close(intrinsic_dimension(cloud), found, rtol=1e-4, atol=0)


def test_a_curved_surface_has_two_dimensions_and_repeated_rows_count_once() -> None:
    draw = torch.Generator().manual_seed(0)
    sphere = torch.nn.functional.normalize(torch.randn(3000, 3, generator=draw, dtype=torch.float64))
    assert intrinsic_dimension(sphere) == pytest.approx(2, rel=0.1)
    assert intrinsic_dimension(torch.cat([sphere, sphere[:500]])) == intrinsic_dimension(sphere)


@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_rows_as_far_from_each_other_have_no_end_of_dimensions(moved: float) -> None:
    assert intrinsic_dimension(torch.eye(30) + moved) == math.inf
    turned = torch.linalg.qr(torch.randn(30, 30, generator=torch.Generator().manual_seed(0))).Q
    assert intrinsic_dimension(turned + moved) == math.inf  # up to the rounding of float32


def test_too_few_rows_have_none_and_other_things_are_refused() -> None:
    assert math.isnan(intrinsic_dimension(torch.eye(7)))
    assert math.isnan(intrinsic_dimension(torch.ones(100, 3)))
    with pytest.raises(ArgumentError, match=r"embeddings: got torch\.int64"):
        intrinsic_dimension(torch.ones(9, 3).long())
