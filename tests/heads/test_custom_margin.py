from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bisector.functional.cosine import shift_angle
from bisector.heads import (
    C2AM,
    AMSoftmax,
    ArcFace,
    CombinedMargin,
    CosineHead,
    EnhancedAMSoftmax,
    NormalizedSoftmax,
)
from head_cases import COSINE_CASES, SCALE, Case, batch, igam, made

B, D, C = 10, 5, 6


def gentle(cos: Tensor, y: Tensor, j: Tensor) -> Tensor:
    """A margin of one's own that keeps cosines within [-1, 1] and treats every pair (y, j) differently."""
    return torch.where(j == y, 0.8 * cos - 0.1, 0.8 * cos + 0.01 * ((y + 2 * j) % 7))


@pytest.mark.parametrize("case", COSINE_CASES, ids=str)
def test_a_heads_own_margin_acts_on_what_the_custom_one_returns(case: Case) -> None:
    head = made(case, D, C, dtype=torch.float64, custom_margin=gentle, reduction="none")
    plain = case.naive(C, head.weight)

    def moved(cos: Tensor, y: int, j: int) -> Tensor:
        return gentle(cos, torch.tensor(y), torch.tensor(j))

    naive = replace(
        plain,
        target=lambda cos, y: plain.target(moved(cos, y, y), y),
        by_row=plain.by_row and (lambda x: lambda cos, y: plain.by_row(x)(moved(cos, y, y), y)),
        competitor=lambda cos, y, j: plain.competitor(moved(cos, y, j), y, j),
    )
    embeddings, labels = batch(B, D, C)
    embeddings = embeddings.double().requires_grad_()
    scale = SCALE if head.log_scale is None else head.log_scale.exp()[0]
    ours, expected = head(embeddings, labels), naive.rows(embeddings, head.weight, labels, scale)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    inputs = [embeddings, *head.parameters()]
    gradients = [torch.autograd.grad(rows.sum(), inputs) for rows in (ours, expected)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def pairwise_rule(head: CosineHead) -> object:
    guide = head.guide
    r, c, sign = guide.r, guide.c, 1 if guide.direction == "relax" else -1

    def rule(cos: Tensor, y: Tensor, j: Tensor) -> Tensor:
        return torch.where(j == y, cos, shift_angle(cos, sign * (r[y] - c[j]).clamp_min(0)))

    return rule


BUILT_IN = [
    (
        AMSoftmax(D, C, margin=0.2, scale=SCALE),
        lambda head: lambda cos, y, j: torch.where(j == y, cos - 0.2, cos),
    ),
    (
        ArcFace(D, C, margin=0.5, scale=SCALE),
        lambda head: lambda cos, y, j: torch.where(j == y, (cos.acos() + 0.5).cos(), cos),
    ),
    (
        CombinedMargin(D, C, m1=1.2, m3=0.1, scale=SCALE),
        lambda head: lambda cos, y, j: torch.where(j == y, (1.2 * cos.acos()).cos() - 0.1, cos),
    ),
    (
        EnhancedAMSoftmax(D, C, margin=0.2, divisor=1.5, scale=SCALE),
        lambda head: lambda cos, y, j: torch.where(j == y, (cos - 0.2) / 1.5, cos + 0.2),
    ),
    (C2AM(D, C, scale=SCALE, alpha=3.0), pairwise_rule),
    (igam(D, C, max_margin=0.4, direction="relax"), pairwise_rule),
    (igam(D, C, max_margin=0.4, direction="press"), pairwise_rule),
]


@pytest.mark.parametrize(("built_in", "rule"), BUILT_IN)
def test_normalized_softmax_with_a_callback_is_the_built_in_head(built_in: CosineHead, rule) -> None:
    generator = torch.Generator().manual_seed(0)
    built_in = built_in.double()
    with torch.no_grad():
        built_in.weight.copy_(torch.randn(C, D, generator=generator))
    written = NormalizedSoftmax(D, C, scale=SCALE, custom_margin=rule(built_in), dtype=torch.float64)
    written.load_state_dict({"weight": built_in.weight})
    _, labels = batch(B, D, C)
    # Near their classes: no angle passes pi, where the plain cosine of these callbacks would turn back.
    noise = torch.randn(B, D, generator=generator, dtype=torch.float64)
    embeddings = (built_in.weight.detach()[labels] + 0.5 * noise).requires_grad_()
    losses = [head(embeddings, labels) for head in (built_in, written)]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=1e-12)
    by_head = zip(losses, (built_in, written), strict=True)
    gradients = [torch.autograd.grad(loss, [embeddings, head.weight]) for loss, head in by_head]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_a_callback_sees_every_entry_and_may_read_the_batch() -> None:
    _, labels = batch(B, D, C)
    shapes = []

    def spy(cos: Tensor, y: Tensor, j: Tensor) -> Tensor:
        shapes.append((tuple(cos.shape), tuple(y.shape), tuple(j.shape)))
        assert torch.equal(y[:, 0], labels)
        return cos

    head = NormalizedSoftmax(D, C, custom_margin=spy)
    head(torch.randn(B, D), labels)
    assert all(cos == (B, j[0]) and y == (B, 1) for cos, y, j in shapes)
    assert sum(j[0] for _, _, j in shapes) >= C
    assert head.logits(torch.randn(B, D)).shape == (B, C)  # no margin at inference
