"""Backbones by name, with options, as on the command line: ``small-conv:width=48``, ``torchvision/resnet18``."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from bisector.errors import ArgumentError, parsed_options, reason_of, require, require_choice, require_integer
from bisector.networks.cifar_resnet import CifarResNet
from bisector.networks.names import DEPTHS, chosen_backbone, require_backbone
from bisector.networks.zoo import Normalize, timm_network, torchvision_network

Shape = tuple[int, ...]
_Parts = tuple[nn.Module, nn.Module]  # what the examples go through first, and the network

LIBRARIES = {"torchvision": torchvision_network, "timm": timm_network}
"""The libraries whose networks are backbones, ``"library/NAME"``."""


class Backbone(nn.Module):
    """Examples to embeddings: normalisation, a network, and a linear layer if a dimension is asked for.

    Args:
        normalize: applied to the examples, which are float32, images with values from 0 to 1.
        network: returns (B, features).
        features: of the network.
        embedding_dim: D; the features themselves are the embedding if None.

    Attributes:
        embedding_dim: D.
    """

    def __init__(
        self, normalize: nn.Module, network: nn.Module, features: int, embedding_dim: int | None
    ) -> None:
        super().__init__()
        self.normalize = normalize
        # Convolutions run faster with the channels last, on the CPU as on a GPU.
        self.network = network.to(memory_format=torch.channels_last)
        self.embed = nn.Identity() if embedding_dim is None else nn.Linear(features, embedding_dim)
        self.embedding_dim = features if embedding_dim is None else embedding_dim

    def forward(
        self,
        examples: Tensor,  # (B, *shape)
    ) -> Tensor:
        """Return the (B, D) embeddings."""
        if examples.dim() == 4:
            examples = examples.contiguous(memory_format=torch.channels_last)
        embeddings: Tensor = self.embed(self.network(self.normalize(examples)))
        return embeddings


def build_backbone(
    spec: str,
    shape: Sequence[int],
    embedding_dim: int | None = None,
    *,
    pretrained: bool = False,
) -> Backbone:
    """Return the network that a spec names, for examples of the given shape.

    ==================================  ===============================================================
    ``auto``                            ``small-conv`` for images, ``mlp`` for vectors
    ``small-conv[:width=32]``           two stages of convolution, for images of 8 to 32 pixels
    ``resnet20`` ``32 44 56 110``       the residual networks for CIFAR (He et al. 2016, section 4.2)
    ``torchvision/NAME``                a classification network of torchvision without its classifier
    ``timm/NAME``                       a network of timm
    ``mlp[:width=256]``                 one hidden layer, for vectors
    ``identity``                        the examples themselves, for stored embeddings
    ==================================  ===============================================================

    The normalisation of pixels is part of the backbone: that of the pretrained weights for torchvision and timm,
    `(x - 0.5) / 0.25` for the residual networks for CIFAR, none otherwise. Images of one channel are repeated to
    the three that torchvision and timm expect.

    Args:
        spec: the name, then options.
        shape: of one example, (channels, height, width) or (D,).
        embedding_dim: D, by a linear layer after the network; the network's own width if None.
        pretrained: with pretrained weights; for torchvision and timm alone.

    Returns:
        The network, in training mode, with an attribute `embedding_dim`.

    Raises:
        ArgumentError: the spec is not legal (the nearest legal name is given), the network does not take examples
            of this shape, or its weights cannot be had.
        MissingExtraError: without torchvision or timm, where they are asked for.

    >>> backbone = build_backbone("resnet32", (3, 32, 32))
    >>> backbone.embedding_dim, backbone(torch.zeros(2, 3, 32, 32)).shape
    (64, torch.Size([2, 64]))
    >>> build_backbone("auto", (768,), 32).embedding_dim
    32
    """
    shape = tuple(shape)
    legal = "(channels, height, width) of images or (D,) of vectors"
    require(len(shape) in {1, 3} and min(shape) >= 1, "shape", shape, legal)
    if embedding_dim is not None:
        require_integer("embedding_dim", embedding_dim, least=1)
    library, slash, name = spec.strip().partition("/")
    if slash:
        parts = _from_library(library, name, spec, shape, pretrained)
    else:
        require(not pretrained, "pretrained", f"backbone {spec!r}", "torchvision/NAME or timm/NAME")
        parts = _own(spec.strip(), shape)
    return Backbone(*parts, _features(*parts, spec, shape), embedding_dim)


def _own(spec: str, shape: Shape) -> _Parts:
    require_backbone(spec)
    name, *assignments = chosen_backbone(spec, shape).split(":")
    build = _OWN[name]
    options: dict[str, int] = {}
    for option, value in parsed_options("backbone", spec, assignments).items():
        require(name in _WITH_WIDTH, f"option of backbone {spec!r}", repr(f"{option}={value}"), "no option")
        require_choice(f"option of backbone {spec!r}", option, ("width",))
        number = int(value) if value.isdecimal() else value
        options[option] = require_integer(f"{option} of backbone {spec!r}", number, least=1)
    _require_images(spec, shape, name not in _FOR_VECTORS)
    return build(shape, **options)


def _from_library(library: str, name: str, spec: str, shape: Shape, pretrained: bool) -> _Parts:
    build = LIBRARIES[require_choice(f"library of backbone {spec!r}", library, LIBRARIES)]
    _require_images(spec, shape, True)
    require(shape[0] in {1, 3}, "shape", shape, f"1 or 3 channels for backbone {spec!r}")
    return build(name, pretrained=pretrained)


def _require_images(spec: str, shape: Shape, images: bool) -> None:
    require(not images or len(shape) == 3, "backbone", f"{spec!r} for vectors", "mlp or identity")


def _features(normalize: nn.Module, network: nn.Module, spec: str, shape: Shape) -> int:
    """The width of the network, by trying: no other way tells whether it takes images of this size."""
    network.eval()
    try:
        with torch.no_grad():
            features: Tensor = network(normalize(torch.zeros(1, *shape)))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = reason_of(error, whole=False)
        raise ArgumentError(
            f"backbone: got {spec!r} for examples of shape {shape}; expected a size that it takes ({reason})"
        ) from error
    network.train()
    require(features.dim() == 2, "backbone", f"{spec!r}, which returns {tuple(features.shape)}", "(B, D)")
    return features.shape[1]


class _Quarters(nn.Module):
    """The means of the four quarters of each map, as `nn.AdaptiveAvgPool2d(2)`, which ONNX lacks for odd sizes."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, 2, 2)
        height, width = x.shape[-2:]
        if height % 2 == 0 and width % 2 == 0:
            return adaptive_avg_pool2d(x, 2)
        rows = x[..., : (height + 1) // 2, :].mean(-2), x[..., height // 2 :, :].mean(-2)
        halves = torch.stack(rows, -2)  # (B, C, 2, W)
        columns = halves[..., : (width + 1) // 2].mean(-1), halves[..., width // 2 :].mean(-1)
        return torch.stack(columns, -1)


def _small_conv(shape: Shape, width: int = 32) -> _Parts:
    def stage(before: int, after: int) -> nn.Sequential:
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True), nn.MaxPool2d(2))

    stages = stage(shape[0], width), stage(width, 2 * width)
    return nn.Identity(), nn.Sequential(*stages, _Quarters(), nn.Flatten())


def _cifar_resnet(depth: int) -> Callable[[Shape], _Parts]:
    return lambda shape: (Normalize([0.5] * shape[0], [0.25] * shape[0]), CifarResNet(depth, shape[0]))


def _mlp(shape: Shape, width: int = 256) -> _Parts:
    linear = nn.Linear(math.prod(shape), width, bias=False)
    return nn.Identity(), nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(width), nn.ReLU(inplace=True))


def _identity(shape: Shape) -> _Parts:
    return nn.Identity(), nn.Flatten()


_OWN: Mapping[str, Callable[..., _Parts]] = {
    "small-conv": _small_conv,
    **{f"resnet{depth}": _cifar_resnet(depth) for depth in DEPTHS},
    "mlp": _mlp,
    "identity": _identity,
}
_WITH_WIDTH = ("small-conv", "mlp")
_FOR_VECTORS = ("mlp", "identity")
