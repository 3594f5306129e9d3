"""The example with timm in a process of its own, beside a loop in PyTorch alone."""

import copy
import math
import re
from pathlib import Path

import pytest
import timm
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy, normalize

from real_processes import python

EXAMPLE = Path(__file__).parents[2] / "examples" / "timm_loop.py"


def plain_training() -> tuple[list[float], list[float]]:
    """The losses of the steps, and the accuracies of the model and of its moving average."""
    digits, targets = load_digits(return_X_y=True)
    images, labels = torch.tensor(digits / 16).float().view(-1, 1, 8, 8), torch.tensor(targets)
    torch.manual_seed(0)
    backbone = timm.create_model("test_efficientnet_gn", in_chans=1, num_classes=0)
    weight = torch.nn.Parameter(torch.nn.Linear(backbone.num_features, 10, bias=False).weight.detach())
    matrices = [p for p in backbone.parameters() if p.dim() > 1] + [weight]
    vectors = [p for p in backbone.parameters() if p.dim() <= 1]
    groups = [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.05}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    average, average_weight = copy.deepcopy(backbone).eval(), weight.detach().clone()

    losses: list[float] = []
    for _ in range(3):
        backbone.train()
        for batch in torch.randperm(1280).split(128):
            step = len(losses)
            rate = step / 5 if step < 5 else 0.5 * (1 + math.cos(math.pi * step / 30))
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * rate
            cosines = normalize(backbone(images[batch])) @ normalize(weight).t()
            margin = 0.5 * min(1, step / 5) * torch.nn.functional.one_hot(labels[batch], 10)
            angles = torch.acos(cosines.clamp(-1 + 1e-7, 1 - 1e-7))
            loss = cross_entropy(16 * torch.cos(angles + margin), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            with torch.no_grad():
                average_weight.lerp_(weight, 0.2)
                for mean, value in zip(
                    average.state_dict().values(), backbone.state_dict().values(), strict=True
                ):
                    mean.copy_(mean.lerp(value, 0.2) if mean.is_floating_point() else value)
    found = []
    for network, vectors_of_classes in ((backbone.eval(), weight), (average, average_weight)):
        with torch.no_grad():
            predicted = (network(images[1280:]) @ normalize(vectors_of_classes).t()).argmax(1)
        found.append((predicted == labels[1280:]).float().mean().item())
    return losses, found


@pytest.mark.slow
def test_it_does_what_a_plain_loop_does(tmp_path: Path) -> None:
    done = python(str(EXAMPLE), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [float(number) for number in re.findall(r"loss (\S+)", done.stdout)]
    accuracies = [float(number) for number in re.findall(r"accuracy .*: (\S+)", done.stdout)]
    expected, expected_accuracies = plain_training()
    assert len(losses) == 30
    assert losses == pytest.approx(expected, rel=1e-3)
    assert losses[:10] == pytest.approx(expected[:10], rel=1e-5)
    assert accuracies == pytest.approx(expected_accuracies, abs=0.01)
    assert min(accuracies) > 0.7
    assert not list(tmp_path.iterdir())
