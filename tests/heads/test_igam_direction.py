"""What a pairwise margin does to the bisector at inference, on frozen 2-D features whose spread is known."""

import pytest
import torch
from torch import Tensor

from bisector.heads import IGAM

# Angles of the classes' centres and their spreads, radians; class 0 is the complex one.
TOYS = {
    "two classes": ([-0.4, 0.4], [0.5, 0.2]),
    "two classes further apart": ([-0.5, 0.5], [0.5, 0.2]),
    "three classes": ([0.0, -0.8, 0.8], [0.4, 0.2, 0.2]),
}


def features(centres: list[float], spreads: list[float], n: int = 1000) -> tuple[Tensor, Tensor]:
    """n quantiles of a normal distribution of angles for each class: nothing is drawn."""
    quantiles = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    angles = torch.cat([c + spread * quantiles for c, spread in zip(centres, spreads, strict=True)])
    return torch.stack([angles.cos(), angles.sin()], dim=1), torch.arange(len(centres)).repeat_interleave(n)


def recalls(x: Tensor, y: Tensor, **options: object) -> Tensor:
    """The recall of each class once the class vectors are trained to convergence."""
    C = int(y.max()) + 1
    head = IGAM(2, C, information=None, scale=10.0, dtype=torch.float64, **options)
    head.set_amounts(torch.tensor([12.0] + [4.0] * (C - 1)))
    with torch.no_grad():
        for c in range(C):
            head.weight[c] = x[y == c].mean(0)
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        max_iter=300,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = head(x, y)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert head.weight.grad.abs().max() < 1e-5  # converged
    right = head.predict(x) == y
    return torch.stack([right[y == c].double().mean() for c in range(C)])


@pytest.mark.parametrize("toy", TOYS)
def test_relax_moves_the_bisector_into_the_complex_class_and_press_out_of_it(toy: str) -> None:
    x, y = features(*TOYS[toy])
    plain = recalls(x, y, max_margin=0.0)
    relaxed = recalls(x, y, max_margin=0.3, direction="relax")
    pressed = recalls(x, y, max_margin=0.3, direction="press")
    assert relaxed[0] < plain[0] - 0.02
    assert pressed[0] > plain[0] + 0.01
    assert (relaxed[1:] > plain[1:] + 0.01).all()
    assert (pressed[1:] < plain[1:] - 0.01).all()
