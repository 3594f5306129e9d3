"""A network of timm or torchvision as a source of embeddings: what its classifier would have been given."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bisector.embedding.source import fitted
from bisector.errors import ArgumentError, require
from bisector.networks.zoo import timm_network, torchvision_network

_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema")
_PREFIXES = ("module.", "model.", "backbone.", "network.")


class PublishedSource:
    """A network of timm or torchvision with its own input size, mean and standard deviation; it has no scores.

    Args:
        spec: `"timm/NAME"` or `"torchvision/NAME"`.
        pretrained: with the published weights, which are downloaded where they are not there; else drawn from a
            fixed seed, unless `weights` are given.
        weights: file of a state dictionary (PyTorch's, loaded with `weights_only=True`, or safetensors). The
            classifier's weights in it are not used.
        device: that computes.

    Raises:
        ArgumentError: for an unknown name, weights that cannot be had, or that do not fit.
        MissingExtraError: without the library.
    """

    def __init__(
        self, spec: str, *, pretrained: bool = True, weights: Path | None = None, device: torch.device
    ) -> None:
        library, _, name = spec.partition("/")
        self._spec = spec
        self._device = device
        load = timm_network if library == "timm" else torchvision_network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            normalize, network = load(name, pretrained=pretrained and weights is None)
        if weights is not None:
            load_weights(network, weights)
        self._size = _timm_size(network) if library == "timm" else _torchvision_size(name)
        self._channels = len(normalize.mean)
        self._network = nn.Sequential(normalize, network).to(device).eval()

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self._spec

    @property
    def class_names(self) -> None:
        """None: the classifier is not used."""
        return

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that the published weights were evaluated at."""
        return self._size

    @torch.inference_mode()
    def embed(self, batch: Tensor) -> tuple[Tensor, None]:
        """Return the features before the classifier.

        Raises:
            ArgumentError: if the examples are not images of 1 or as many channels as the network takes.
        """
        shape = tuple(batch.shape[1:])
        require(
            len(shape) == 3 and shape[0] in {1, self._channels},
            "data",
            f"examples of shape {shape}",
            f"images of 1 or {self._channels} channels for {self._spec}",
        )
        images = fitted(batch.to(self._device), self._size, self._channels)
        features: Tensor = self._network(images)
        return features.flatten(1).float().cpu(), None


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dictionary: one that a usual key wraps or whose names have a usual prefix is found.

    Raises:
        ArgumentError: if the file cannot be read, or does not hold every weight of the network.
    """
    weights = _read(path)
    wanted = network.state_dict()
    candidates = [_without(weights, prefix) for prefix in ("", *_PREFIXES)]
    best = max(candidates, key=lambda candidate: len(candidate.keys() & wanted.keys()))
    absent = [key for key in wanted if key not in best and not key.endswith("num_batches_tracked")]
    require(
        not absent, "weights", f"{path} without {', '.join(absent[:2])}", f"the {len(wanted)} of the network"
    )
    unlike = [key for key in wanted if key in best and best[key].shape != wanted[key].shape]
    for key in unlike[:1]:
        require(False, "weights", f"{key} of shape {tuple(best[key].shape)}", f"{tuple(wanted[key].shape)}")
    network.load_state_dict({key: best[key] for key in wanted if key in best}, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    require(path.is_file(), "weights", f"{path}, which is not a file", "the file of a state dictionary")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArgumentError(f"weights: {path} cannot be loaded as weights alone: {reason}") from None
    for key in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    tensors = isinstance(loaded, dict) and all(isinstance(value, Tensor) for value in loaded.values())
    require(tensors, "weights", f"{path}, which holds no state dictionary", "weights by name")
    return dict(loaded)


def _without(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _timm_size(network: nn.Module) -> tuple[int, int]:
    from timm.data.config import resolve_data_config

    height, width = resolve_data_config({}, model=network)["input_size"][1:]  # type: ignore[no-untyped-call]
    return int(height), int(width)


def _torchvision_size(name: str) -> tuple[int, int]:
    from torchvision import models

    side = models.get_model_weights(name).DEFAULT.transforms().crop_size
    return int(side[0]), int(side[-1])
