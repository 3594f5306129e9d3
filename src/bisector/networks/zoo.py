"""The networks of torchvision and timm, without their classifiers."""

import difflib
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bisector.errors import ArgumentError, missing_extra, reason_of

_Loaded = TypeVar("_Loaded")
_CLASSES = 1000  # ImageNet's, which the classifiers of torchvision are built for
_TWO_CLASSIFIERS = ("googlenet", "inception_v3")  # in training they return the logits of a second one too


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    As part of the network it cannot be forgotten when the network is used elsewhere. Images of one channel are
    repeated where the network expects several.

    Args:
        mean: of each channel, for pixels from 0 to 1.
        std: of each channel.

    >>> Normalize([0.5], [0.25])(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)).flatten()
    tensor([-2.,  0.,  2.])
    """

    mean: Tensor  # (channels, 1, 1)
    std: Tensor  # (channels, 1, 1)

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(
        self,
        images: Tensor,  # (B, 1 or channels, height, width)
    ) -> Tensor:
        """Return the normalised (B, channels, height, width) images."""
        return (images - self.mean) / self.std


def torchvision_network(name: str, *, pretrained: bool) -> tuple[Normalize, nn.Module]:
    """A classification network of torchvision that returns what its last layer would have been given.

    Args:
        name: as in `torchvision.models.list_models(torchvision.models)`.
        pretrained: with torchvision's default weights.

    Returns:
        The normalisation that the pretrained weights expect, and the network.

    Raises:
        ArgumentError: for an unknown name, or if the weights cannot be had.
        MissingExtraError: without torchvision.

    >>> _, network = torchvision_network("resnet18", pretrained=False)
    >>> network.fc
    Identity()
    """
    models = _torchvision(name)
    options = {"aux_logits": False, "init_weights": not pretrained} if name in _TWO_CLASSIFIERS else {}
    preset = models.get_model_weights(name).DEFAULT.transforms()
    network: nn.Module = _loaded(
        f"torchvision/{name}",
        pretrained,
        lambda: models.get_model(name, weights="DEFAULT" if pretrained else None, **options),
    )
    _strip_classifier(network)
    return Normalize(preset.mean, preset.std), network


def timm_network(name: str, *, pretrained: bool) -> tuple[Normalize, nn.Module]:
    """A network of timm with `num_classes=0`.

    Args:
        name: as in `timm.list_models()`; the weights may be named after a dot: ``resnet18.a1_in1k``.
        pretrained: with the weights of that name, or timm's default ones.

    Returns:
        The normalisation that the pretrained weights expect, and the network.

    Raises:
        ArgumentError: for an unknown name, or if the weights cannot be had.
        MissingExtraError: without timm.
    """
    timm = _timm(name)
    network: nn.Module = _loaded(
        f"timm/{name}", pretrained, lambda: timm.create_model(name, pretrained=pretrained, num_classes=0)
    )
    config = timm.data.resolve_data_config({}, model=network)
    return Normalize(config["mean"], config["std"]), network


def input_size(spec: str) -> tuple[int, int]:
    """Height and width that the published weights of `"timm/NAME"` or `"torchvision/NAME"` were evaluated at.

    Raises:
        ArgumentError: for an unknown name.
        MissingExtraError: without the library.

    >>> input_size("torchvision/inception_v3")
    (299, 299)
    """
    library, _, name = spec.partition("/")
    if library == "timm":
        timm = _timm(name)
        found = timm.get_pretrained_cfg(name)
        config = {} if found is None else found.to_dict()
        _, height, width = timm.data.resolve_data_config({}, pretrained_cfg=config)["input_size"]
        return int(height), int(width)
    side = _torchvision(name).get_model_weights(name).DEFAULT.transforms().crop_size
    return int(side[0]), int(side[-1])


def _timm(name: str) -> Any:
    try:
        timm: Any = importlib.import_module("timm")  # only half of it is typed
    except ImportError:
        raise missing_extra("timm", "timm") from None
    known = timm.list_models()
    if name not in known:
        _require_name("timm", name, [*known, *timm.list_models(pretrained=True)])
    return timm


def _torchvision(name: str) -> Any:
    try:
        from torchvision import models
    except ImportError:
        raise missing_extra("torchvision", "train") from None
    _require_name("torchvision", name, models.list_models(models))
    return models


def _require_name(library: str, name: str, legal: Iterable[str]) -> None:
    """Like `require_choice`, but the legal names are far too many to be listed."""
    names = list(legal)
    if name in names:
        return
    near = " or ".join(repr(f"{library}/{close}") for close in difflib.get_close_matches(name, names, n=2))
    hint = f"did you mean {near}? " if near else ""
    legal = f"one of the {len(names)} of {library}"
    raise ArgumentError(f"backbone: got '{library}/{name}'; {hint}expected {legal}")


def _loaded(spec: str, pretrained: bool, make: Callable[[], _Loaded]) -> _Loaded:
    """Make a network; a download that fails is one line, whatever the library raises."""
    if not pretrained:
        return make()
    try:
        return make()
    except Exception as error:
        reason = reason_of(error, whole=False)
        raise ArgumentError(
            f"pretrained: got {spec!r}, whose weights cannot be loaded ({reason}); "
            "expected a connection to where they are kept, or weights that were downloaded before"
        ) from error


def _strip_classifier(network: nn.Module) -> None:
    """Replace the layer that returns the logits by nothing, and a dropout before it: embeddings are not dropped."""
    kinds = {nn.Linear: "out_features", nn.Conv2d: "out_channels"}
    name = [
        name
        for name, module in network.named_modules()
        if getattr(module, kinds.get(type(module), ""), None) == _CLASSES
    ][-1]
    place, _, last = name.rpartition(".")
    parent = network.get_submodule(place)
    names = [key for key, _ in parent.named_children()]
    setattr(parent, last, nn.Identity())
    before = names[names.index(last) - 1] if last != names[0] else last
    if isinstance(parent, nn.Sequential) and isinstance(parent.get_submodule(before), nn.Dropout):
        setattr(parent, before, nn.Identity())
