import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from bisector.errors import ArgumentError
from bisector.networks.cifar_resnet import CifarResNet


# With a linear layer for ten classes, as published: He et al. 2016, table 6, and the counts of Idelbayev's
# "Proper ResNet Implementation for CIFAR10/CIFAR100 in PyTorch".
@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_the_published_number_of_parameters(depth: int, parameters: int) -> None:
    network = nn.Sequential(CifarResNet(depth), nn.Linear(64, 10))
    assert sum(p.numel() for p in network.parameters()) == parameters
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth  # no convolution on a shortcut


def test_the_stages_halve_the_image_and_double_the_channels() -> None:
    seen: list[tuple[int, ...]] = []
    network = CifarResNet(20)
    for block in network.stages:
        block.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape[1:])))
    network(torch.rand(2, 3, 32, 32))
    assert seen == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_without_its_convolutions_a_network_is_its_shortcuts() -> None:
    """Option A: every second pixel, new channels zero, so that only the middle channels carry anything."""
    network = CifarResNet(20).eval()
    for block in network.stages:
        nn.init.zeros_(block.residual[3].weight)
    images = torch.rand(2, 3, 32, 32)
    stem: Tensor = network.stem(images).relu()
    embeddings = network(images)
    assert torch.allclose(embeddings[:, 24:40], stem[:, :, ::4, ::4].mean(dim=(2, 3)), atol=1e-6)
    assert not embeddings[:, :24].any()
    assert not embeddings[:, 40:].any()
    averaged = avg_pool2d(stem, 4).mean(dim=(2, 3))
    assert not torch.allclose(embeddings[:, 24:40], averaged, atol=1e-4)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 28), (4, 33), (1, 1)])
def test_any_size_of_image(channels: int, size: int) -> None:
    assert CifarResNet(20, channels)(torch.rand(2, channels, size, size)).shape == (2, 64)


@pytest.mark.parametrize("depth", [0, 2, 18, 33])
def test_other_depths_are_told(depth: int) -> None:
    with pytest.raises(ArgumentError, match=rf"depth: got {depth}; expected 6n \+ 2"):
        CifarResNet(depth)
