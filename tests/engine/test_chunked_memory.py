"""The chunked loss keeps within its budget, counted by allocation."""

import pytest
import torch

from bisector.benchmarks.memory import peak_extra_bytes
from bisector.engine.budget import MemoryBudget, release_workspace
from bisector.engine.dispatch import margin_cross_entropy
from bisector.functional.margins import Margin, PairwiseMargin, additive_cosine
from bisector.functional.row_losses import RowLoss

MIB = 1 << 20


def margins(C: int) -> dict[str, Margin]:
    g = torch.rand(C) * 0.5
    return {
        "target": Margin(target=additive_cosine(0.35)),
        "relax": Margin(pairwise=PairwiseMargin(g, g, "relax")),
        "press": Margin(pairwise=PairwiseMargin(g, g, "press")),
        "custom": Margin(custom=lambda cos, y, j: torch.where(j == y, cos - 0.2, cos)),
    }


SIZES = [
    (512, 64, 20_000, 1),
    (2000, 32, 5_000, 1),
    (64, 256, 30_000, 1),
    (1, 512, 50_000, 1),
    (300, 64, 4_000, 3),
]


@pytest.mark.slow
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("budget", [4 * MIB, 16 * MIB, 64 * MIB])
@pytest.mark.parametrize("margin", ["target", "relax", "press", "custom"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_peak_is_gradients_and_budget_and_a_few_numbers_a_row_and_class(
    size: tuple[int, int, int, int], margin: str, budget: int, autocast: bool
) -> None:
    B, D, C, K = size
    x = torch.randn(B, D, requires_grad=True)
    w = torch.randn(*((C, D) if K == 1 else (C, K, D)), requires_grad=True)
    y, rule = torch.randint(C, (B,)), margins(C)[margin]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = margin_cross_entropy(
                x, w, y, margin=rule, backend="chunked", budget=MemoryBudget(chunk_bytes=budget)
            )
        loss.backward()

    release_workspace()
    gradients = 4 * (x.numel() + w.numel())
    few = 64 * (B + C * K)
    assert peak_extra_bytes(step) <= gradients + budget + few


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("row_loss", [RowLoss(label_smoothing=0.1), RowLoss("probability")], ids=str)
def test_other_row_losses_keep_the_bound_too(row_loss: RowLoss, reduction: str) -> None:
    B, D, C = 400, 64, 20_000
    x, w = torch.randn(B, D, requires_grad=True), torch.randn(C, D, requires_grad=True)
    scale = torch.tensor(20.0, requires_grad=True)
    offset = torch.zeros(C, requires_grad=True)
    y, budget = torch.randint(C, (B,)), 16 * MIB

    def step() -> None:
        margin_cross_entropy(
            x,
            w,
            y,
            row_loss=row_loss,
            scale=scale,
            offset=offset,
            reduction=reduction,
            backend="chunked",
            budget=MemoryBudget(chunk_bytes=budget),
        ).sum().backward()

    release_workspace()
    assert peak_extra_bytes(step) <= 4 * (x.numel() + w.numel()) + budget + 64 * (B + C)


def test_without_gradients_it_takes_the_budget_alone() -> None:
    B, D, C = 400, 64, 50_000
    x, y = torch.randn(B, D), torch.randint(C, (B,))
    w = torch.nn.Parameter(torch.randn(C, D))
    release_workspace()
    with torch.no_grad():
        peak = peak_extra_bytes(
            lambda: margin_cross_entropy(x, w, y, backend="chunked", budget=MemoryBudget(8 * MIB))
        )
    assert peak <= 8 * MIB + 64 * (B + C)


def test_soft_labels_are_not_copied_whole() -> None:
    B, D, C = 256, 16, 40_000
    x, w = torch.randn(B, D, requires_grad=True), torch.randn(C, D, requires_grad=True)
    soft, weights, budget = torch.rand(B, C).bfloat16(), torch.rand(C), 8 * MIB
    release_workspace()
    peak = peak_extra_bytes(
        lambda: margin_cross_entropy(
            x, w, soft, class_weight=weights, backend="chunked", budget=MemoryBudget(budget)
        ).backward()
    )
    assert peak <= 4 * (x.numel() + w.numel()) + budget + 64 * (B + C)


def test_the_workspace_is_kept_and_can_be_released() -> None:
    x, w = torch.randn(256, 16), torch.randn(20_000, 16, requires_grad=True)
    y = torch.randint(20_000, (256,))

    def step() -> None:
        w.grad = None
        margin_cross_entropy(x, w, y, backend="chunked").backward()

    release_workspace()
    first, second = peak_extra_bytes(step), peak_extra_bytes(step)
    scores = 4 * 256 * 20_000
    assert first - second >= scores  # kept for the second call
    release_workspace()
    assert peak_extra_bytes(step) == pytest.approx(first, rel=0.1)
