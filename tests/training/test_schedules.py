import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from bisector.training.head_module import schedule


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize("steps", [10, 37, 1000])
def test_one_cycle_is_that_of_torch(steps: int) -> None:
    peer = OneCycleLR(optimizer(), max_lr=1.0, total_steps=steps, cycle_momentum=False)
    factor = schedule("one-cycle", steps)
    for step in range(steps):
        assert factor(step) == pytest.approx(peer.get_last_lr()[0], abs=1e-9)
        if step < steps - 1:
            peer.optimizer.step()
            peer.step()


def test_cosine_is_that_of_torch_after_the_warm_up() -> None:
    peer = CosineAnnealingLR(optimizer(), T_max=95)
    factor = schedule("cosine", 100)
    assert [factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    for step in range(5, 100):
        assert factor(step) == pytest.approx(peer.get_last_lr()[0], abs=1e-9)
        peer.optimizer.step()
        peer.step()


@pytest.mark.parametrize("name", ["one-cycle", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_rates_too(name: str, steps: int) -> None:
    assert all(0 <= schedule(name, steps)(step) <= 1 for step in range(steps + 3))
