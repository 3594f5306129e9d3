"""Circle against the paper's formula, written out one number at a time.

The weights pass no gradient, so the generic tests by finite differences do not hold for it.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import bisector as bs
from bisector.heads import build_head
from head_cases import batch, learns

D, C, M, GAMMA = 5, 6, 0.25, 16.0


def published(x: Tensor, weight: Tensor, y: int, m: float = M, gamma: float = GAMMA) -> Tensor:
    """The loss with one s_p: log(1 + sum_j exp(gamma (a_n (s_n - m) - a_p (s_p - 1 + m))))."""
    s = [(x * w).sum() / ((x * x).sum().sqrt() * (w * w).sum().sqrt()) for w in weight]
    alpha_p = max(0.0, 1 + m - float(s[y].detach()))
    total = torch.ones((), dtype=x.dtype)
    for j in range(len(weight)):
        if j != y:
            alpha_n = max(0.0, float(s[j].detach()) + m)
            exponent = gamma * alpha_n * (s[j] - m) - gamma * alpha_p * (s[y] - (1 - m))
            total = total + exponent.exp()
    return total.log()


def head(**options: Any) -> bs.Circle:
    torch.manual_seed(0)
    return bs.Circle(D, C, margin=M, scale=GAMMA, dtype=torch.float64, **options)


@pytest.mark.parametrize("backend", ["dense", "chunked"])
def test_loss_and_gradient_are_those_of_the_paper(backend: Any) -> None:
    x, y = batch(9, D, C)
    ours, x = head(backend=backend), x.double().requires_grad_()
    expected = torch.stack(
        [published(row, ours.weight, label) for row, label in zip(x, y.tolist(), strict=True)]
    )
    loss = ours(x, y)
    torch.testing.assert_close(loss, expected.mean(), rtol=1e-12, atol=1e-12)
    for got, wanted in zip(
        torch.autograd.grad(loss, [x, ours.weight]),
        torch.autograd.grad(expected.mean(), [x, ours.weight]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_a_cosine_beyond_its_optimum_counts_nothing() -> None:
    # Opposite competitors, below -m, have the weight 0: their logits are 0 wherever they are.
    ours = bs.Circle(2, 2, margin=M, scale=GAMMA, dtype=torch.float64)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    loss = ours(torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([0]))
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-GAMMA * M * M)), rel=1e-12)


def test_the_other_options_work_as_in_every_head() -> None:
    x, y = batch(9, D, C)
    x = x.double()
    torch.testing.assert_close(head().logits(x), bs.NormalizedSoftmax.logits(head(), x))
    smooth = head(label_smoothing=0.1)
    soft = torch.full((9, C), 0.1 / C, dtype=torch.float64)
    soft[range(9), y] += 0.9
    torch.testing.assert_close(smooth(x, y), head()(x, soft))
    weighted = head(weight=torch.arange(1.0, C + 1))
    rows = head(reduction="none")(x, y)
    weights = torch.arange(1.0, C + 1).double()[y]
    torch.testing.assert_close(weighted(x, y), (rows * weights).sum() / weights.sum())
    halved = head(custom_margin=lambda cosine, y, j: cosine / 2, backend="chunked")
    torch.testing.assert_close(halved(x, y), head(custom_margin=lambda c, y, j: c / 2, backend="dense")(x, y))
    plain = bs.NormalizedSoftmax(D, C, scale=GAMMA, dtype=torch.float64)
    plain.load_state_dict(head().state_dict())
    nothing = torch.zeros_like(y)
    torch.testing.assert_close(head(background=0)(x, nothing), plain(x, nothing))


def test_it_learns_and_is_called_by_its_name() -> None:
    ours = build_head("circle:margin=0.3:scale=64", D, C)
    assert repr(ours) == "Circle(in_features=5, num_classes=6, scale=64, margin=0.3)"
    assert learns(ours)
