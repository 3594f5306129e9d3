"""A network of timm or torchvision as a model that embeds: what its classifier would have been given."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from bisector.embedding.model import EmbeddingModel, fitted, require_images
from bisector.errors import ArgumentError, reason_of, require
from bisector.networks.zoo import input_size, timm_network, torchvision_network

_FIRST = ("state_dict", "model_state_dict", "model")  # of what a file holds: before an average over the steps
_DEEPEST = 4  # dictionaries in dictionaries
_COMPILED = "_orig_mod."  # which torch.compile puts before the names of whatever it wraps, inside too


class PublishedModel(EmbeddingModel):
    """A network of timm or torchvision with its own input size, mean and standard deviation.

    It has scores where `weights` holds, besides those of the network, one linear layer for its embeddings: the
    user's own classifier. The published classifiers are not used.

    Args:
        spec: `"timm/NAME"` or `"torchvision/NAME"`.
        pretrained: with the published weights, which are downloaded where they are not there; else drawn from a
            fixed seed, unless `weights` are given.
        weights: file of a state dictionary (PyTorch's, loaded with `weights_only=True`, or safetensors), as
            `load_weights` reads it.
        device: that computes.

    Raises:
        ArgumentError: for an unknown name, weights that cannot be had, or that do not fit.
        MissingExtraError: without the library.
    """

    def __init__(
        self, spec: str, *, pretrained: bool = True, weights: Path | None = None, device: torch.device
    ) -> None:
        library, _, name = spec.partition("/")
        self.name = spec
        self._device = device
        load = timm_network if library == "timm" else torchvision_network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            normalize, network = load(name, pretrained=pretrained and weights is None)
        self._classifier: Classifier | None = None
        loaded = None if weights is None else load_weights(network, weights)
        self.input_size: tuple[int, int] = input_size(spec)  # that the published weights were evaluated at
        self._channels = len(normalize.mean)
        self._network = nn.Sequential(normalize, network).to(device).eval()
        if loaded is not None:
            width = self._features(torch.zeros(1, self._channels, *self.input_size)).shape[1]
            self._classifier = loaded.classifier(width)
            self.notes = loaded.told(self._classifier)

    @torch.inference_mode()
    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the features before the classifier, and its scores if it is the user's own."""
        require_images(batch, self._channels, self.name)
        features = self._features(fitted(batch, self.input_size, self._channels))
        own = self._classifier
        return features, None if own is None else linear(features, own.weight, own.bias)

    @torch.inference_mode()
    def _features(self, images: Tensor) -> Tensor:
        features: Tensor = self._network(images.to(self._device))
        return features.flatten(1).float().cpu()


class Classifier(NamedTuple):
    """A linear layer that a file of weights holds besides those of the network."""

    name: str
    weight: Tensor  # (C, D)
    bias: Tensor | None  # (C,)


class Loaded(NamedTuple):
    """What `load_weights` found in a file."""

    path: Path
    place: str  # the dictionaries and the prefix that the names had
    others: list[str]  # further places that hold every weight of the network
    unused: dict[str, Tensor]  # weights beside those, which the network has no place for

    def classifier(self, width: int) -> Classifier | None:
        """Return the only linear layer for embeddings of D = `width` among the unused weights, if there is one."""
        found = []
        for name, weight in self.unused.items():
            layer, dot, last = name.rpartition(".")
            bias = self.unused.get(f"{layer}{dot}bias")
            beside = [key for key in self.unused if key.startswith(f"{layer}{dot}")]
            whole = set(beside) <= {name, f"{layer}{dot}bias"}
            if last == "weight" and whole and weight.ndim == 2 and weight.shape[1] == width:
                found.append(Classifier(layer, weight.float(), None if bias is None else bias.float()))
        return found[0] if len(found) == 1 else None

    def told(self, classifier: Classifier | None) -> tuple[str, ...]:
        """Say in one line what was taken and what was not; nothing where the file holds just the network."""
        words = [f"those of {self.place!r}"] if self.place else []
        words += [f"not those of {', '.join(map(repr, self.others))}"] if self.others else []
        left = dict(self.unused)
        if classifier is not None:
            left = {name: value for name, value in left.items() if name.rpartition(".")[0] != classifier.name}
            words.append(f"{classifier.name!r} gives scores of {len(classifier.weight)} classes")
        if left:
            few = ", ".join(list(left)[:3]) + (", …" if len(left) > 3 else "")
            words.append(f"{len(left)} not used, for which the network has no place: {few}")
        return (f"weights of {self.path}: {'; '.join(words)}",) if words else ()


def load_weights(network: nn.Module, path: Path) -> Loaded:
    """Load a state dictionary, wherever in the file it is and whatever prefix its names have.

    Dictionaries in dictionaries are looked through (Lightning's and other trainers' checkpoints), and of all
    prefixes ("module.", "model.backbone.", ...) that is taken under which most of the network's weights are. A
    network and its average over the steps may both be there: then the network is taken.

    Raises:
        ArgumentError: if the file cannot be read, or does not hold every weight of the network.
    """
    wanted = network.state_dict()
    needed = {key for key in wanted if not key.endswith("num_batches_tracked")}
    found = _dictionaries(_read(path))
    candidates = [(place, prefix, held) for place, held in found for prefix in _prefixes(held, wanted)]
    require(bool(candidates), "weights", f"{path}, which holds no state dictionary", "weights by name")

    def fit(candidate: tuple[str, str, dict[str, Tensor]]) -> tuple[int, int]:
        _, prefix, held = candidate
        there = [key for key in needed if prefix + key in held]
        return len(there), sum(held[prefix + key].shape == wanted[key].shape for key in there)

    fits = [fit(candidate) for candidate in candidates]
    best = max(fits)
    chosen, *others = [candidate for candidate, found in zip(candidates, fits, strict=True) if found == best]
    place, prefix, held = chosen
    absent = [key for key in wanted if key in needed and prefix + key not in held]
    without = f"{path} without {', '.join(absent[:2])}"
    require(not absent, "weights", without, f"the {len(wanted)} of the network")
    given = {key: held[prefix + key] for key in wanted if prefix + key in held}
    for key, value in given.items():
        got, legal = tuple(value.shape), tuple(wanted[key].shape)
        require(got == legal, "weights", f"{key} of shape {got}", f"{legal}")
    network.load_state_dict(given, strict=False)
    unused = {key: value for key, value in held.items() if key.removeprefix(prefix) not in given}
    return Loaded(path, place + prefix, [other[0] + other[1] for other in others], unused)


def _read(path: Path) -> Any:
    require(path.is_file(), "weights", f"{path}, which is not a file", "the file of a state dictionary")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = reason_of(error, whole=False)
        raise ArgumentError(f"weights: {path} cannot be loaded as weights alone: {reason}") from None


def _dictionaries(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The dictionaries of tensors in a file with where they are, those of usual names first."""
    if not isinstance(content, dict) or depth > _DEEPEST:
        return
    held = {
        str(key).replace(_COMPILED, ""): value for key, value in content.items() if isinstance(value, Tensor)
    }
    if held:
        yield place, held
    for key in sorted(content, key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST)):
        yield from _dictionaries(content[key], f"{place}{key}/", depth + 1)


def _prefixes(held: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """What stands before names of the network's weights, the shortest first; there is always one, if only none."""
    found = {""}
    for name in wanted:
        found |= {key.removesuffix(name) for key in held if key.endswith(f".{name}")}
    return sorted(found, key=lambda prefix: (len(prefix), prefix))
