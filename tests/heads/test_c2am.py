import math

import pytest
import torch

from bisector.guides.pairwise import pairwise_guide
from bisector.heads import C2AM

NORMS = torch.tensor([1.0, 2.0, 4.0, 0.5])


@pytest.mark.parametrize("direction", ["relax", "press"])
@pytest.mark.parametrize("norms", [NORMS, NORMS * torch.tensor([1.0, 0.0, 1.0, 1.0]), 0 * NORMS])
def test_its_guide_is_the_one_of_the_weight_norms(norms: torch.Tensor, direction: str) -> None:
    head = C2AM(4, 4, alpha=0.7, direction=direction)
    with torch.no_grad():
        head.weight.copy_(torch.diag(norms))
    expected = pairwise_guide(norms, gain=0.7, direction=direction)
    torch.testing.assert_close(head.guide.matrix(), expected.matrix().float())
    assert head.guide.direction == direction


def test_the_guide_follows_the_weights_and_passes_them_no_gradient() -> None:
    head = C2AM(4, 4, sub_centers=2)
    before = head.guide.matrix()
    assert not before.requires_grad
    with torch.no_grad():
        head.weight[1] *= 3
    after = head.guide.matrix()
    assert (after[1] >= before[1]).all()
    assert not torch.equal(after, before)


def test_no_margin_exceeds_a_right_angle() -> None:
    head = C2AM(2, 2, alpha=50.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1000.0]]))
    assert float(head.guide.largest()) == pytest.approx(math.pi / 2)
