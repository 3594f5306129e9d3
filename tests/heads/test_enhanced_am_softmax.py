import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bisector.heads import AMSoftmax, EnhancedAMSoftmax

M = math.exp(0.3)


def logits(head: EnhancedAMSoftmax, cos_y: float, cos_j: float, C: int) -> Tensor:
    """One row of training logits of class 0, all competitors at one cosine."""
    cosines = torch.full((1, C), cos_j, dtype=torch.float64)
    cosines[0, 0] = cos_y
    return head.scale * head.margin()(cosines, torch.tensor([0]))


def test_the_floor_of_the_loss_at_a_hundred_thousand_classes_is_2_83() -> None:
    head = EnhancedAMSoftmax(1, 100_000)
    rows = head.row_loss.rows(logits(head, 1.0, 0.0, head.num_classes), torch.tensor([0]))
    assert round(float(rows), 2) == 2.83


def test_the_boundary_lies_at_0_705_beyond_the_competitor_and_is_out_of_reach_from_0_219() -> None:
    head = EnhancedAMSoftmax(1, 2)
    assert round(0.3 * (1 + M), 3) == 0.705
    for cos_y, cos_j in ((0.9, 0.1), (0.2, -0.5), (1.0, 0.5)):
        z = logits(head, cos_y, cos_j, 2)[0]
        shifted = 40 / M * (cos_y - 0.3 * (1 + M)) - 40 * cos_j
        assert float(z[0] - z[1]) == pytest.approx(shifted, abs=1e-12)
    edge = (1 - 0.3) / M - 0.3
    assert round(edge, 3) == 0.219
    for beyond in (-1e-9, 1e-9):
        z = logits(head, 1.0, edge + beyond, 2)[0]
        assert bool(z[0] > z[1]) == (beyond < 0)


@pytest.mark.parametrize(("C", "printed"), [(10, "32.5%"), (1000, "0.4%")])
def test_the_optimum_of_the_notebook_form(C: int, printed: str) -> None:
    row_loss = EnhancedAMSoftmax(1, C, form="notebook").row_loss
    optimum = (1 + 0.3) / (1 + C * 0.3)
    assert f"{optimum:.1%}" == printed
    p = torch.full((1, C), (1 - optimum) / (C - 1), dtype=torch.float64)
    p[0, 0] = optimum
    z = p.log().requires_grad_()
    (gradient,) = torch.autograd.grad(row_loss.rows(z, torch.tensor([0])).sum(), z)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["log", "printed"])
def test_without_the_divisor_it_is_am_softmax_with_twice_the_margin(form: str) -> None:
    head = EnhancedAMSoftmax(4, 6, margin=0.2, divisor=1.0, form=form, dtype=torch.float64)
    twin = AMSoftmax(4, 6, margin=0.4, scale=40.0, dtype=torch.float64)
    twin.load_state_dict(head.state_dict())
    x = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.arange(8) % 6
    z = 40 * (F.cosine_similarity(x[:, None], twin.weight, dim=-1) - 0.4 * F.one_hot(y, 6).double())
    loss = head(x, y)
    expected = twin(x, y) if form == "log" else -z.softmax(1).gather(1, y[:, None]).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    gradients = zip(
        torch.autograd.grad(loss, [x, head.weight]),
        torch.autograd.grad(expected, [x, twin.weight]),
        strict=True,
    )
    for mine, theirs in gradients:
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_dividing_by_m_lowers_the_loss_of_a_wrong_row_without_any_merit() -> None:
    losses = []
    for divisor in (1.0, M, 5.0):
        head = EnhancedAMSoftmax(1, 10, form="code", divisor=divisor)
        losses.append(float(head.row_loss.rows(logits(head, -0.5, 0.5, 10), torch.tensor([0]))))
    assert losses == sorted(losses, reverse=True)
