"""What makes embeddings: one base class for every kind of model, and the way from a name to one of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bisector.data.places import DATA_SETS, resolvable
from bisector.data.plugins import plugin_of
from bisector.data.tables import is_embeddings
from bisector.embedding.kinds import MODELS, PUBLISHED, TORCHSCRIPT
from bisector.errors import ArgumentError, require

if TYPE_CHECKING:
    from bisector.training.classification import Trained


class EmbeddingModel(ABC):
    """A model that turns examples into embeddings.

    Attributes:
        name: for a person.
        class_names: of the scores' columns; None if the model has no classes, or does not say which.
        input_size: height and width that images are given at; None if the model takes any.
        notes: lines about what was chosen in loading the model.
        trained: what is known of a training of ours; None of other models.
    """

    name: str
    class_names: tuple[str, ...] | None = None
    input_size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    trained: "Trained | None" = None

    @abstractmethod
    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:  # (B, *shape) -> (B, D), (B, M)
        """Return the embeddings and, if the model has them, the scores, on the CPU.

        Scores are logits without a margin, or probabilities.

        Raises:
            ArgumentError: if the model does not take examples of this shape.
        """

    def expect_classes(self, classes: int) -> None:  # noqa: B027
        """Be told how many classes the data have, before the first batch: outputs without names are told by it."""


def open_model(
    model: str,
    *,
    pretrained: bool = True,
    weights: Path | None = None,
    embedding_output: str | None = None,
    scores_output: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | None = None,
) -> EmbeddingModel:
    """Return the model that a name or a path means.

    Args:
        model: one of `bisector.embedding.kinds.MODELS`.
        pretrained: whether a published network has its published weights.
        weights: a file of weights for a published network.
        embedding_output: of an ONNX or TorchScript file.
        scores_output: of an ONNX or TorchScript file.
        mean: of the channels, for an ONNX or TorchScript file.
        std: of the channels, for an ONNX or TorchScript file.
        device: that computes; a GPU if there is one, else the CPU, if None.

    Raises:
        ArgumentError: if there is no such model, or it cannot be loaded, or an option is not for its kind.
    """
    path = Path(resolvable(model))  # what the file of embeddings names is found from any folder
    published = model.startswith(PUBLISHED) and not path.exists()
    onnx = path.suffix.lower() == ".onnx"
    script = path.suffix.lower() in TORCHSCRIPT and not path.is_dir()
    of_a_file = {
        "embedding_output": embedding_output,
        "scores_output": scores_output,
        "mean": mean,
        "std": std,
    }
    for name, given in {"weights": weights, **of_a_file}.items():
        if given is not None and not (published if name == "weights" else onnx or script):
            kind = "timm/NAME or torchvision/NAME" if name == "weights" else "an ONNX file or TorchScript"
            raise ArgumentError(f"{name}: got {given} for {model}; expected it only with {kind}")
    if onnx and path.exists():
        from bisector.embedding.onnx_file import OnnxModel

        return OnnxModel(path, **of_a_file, device=device)
    if not published and not path.exists():
        raise ArgumentError(f"model: got {model!r}, which is not there; expected {MODELS}")
    where = require_device(device)
    if published:
        from bisector.embedding.published import PublishedModel

        return PublishedModel(model, pretrained=pretrained, weights=weights, device=where)
    if script:
        from bisector.embedding.torchscript import TorchScriptModel

        return TorchScriptModel(path, **of_a_file, device=where)
    if (path / "config.json").is_file():
        from bisector.embedding.transformers_folder import TransformersModel

        return TransformersModel(path, where)
    if path.is_dir() or path.suffix.lower() in {".ckpt", ".safetensors"}:
        from bisector.embedding.trained import TrainedModel

        return TrainedModel(path, where)
    raise ArgumentError(f"model: got {model!r}; expected {MODELS}")


def require_device(device: torch.device | str | None) -> torch.device:
    """Return the device if PyTorch can compute on it; a GPU if there is one, else the CPU, if None.

    Raises:
        ArgumentError: if it cannot.

    >>> require_device("cpu")
    device(type='cpu')
    >>> require_device("meta")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: device: got meta, on which PyTorch cannot compute here; expected cpu...
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        usable = torch.ones(1, device=device).item() == 1
    except (RuntimeError, AssertionError, NotImplementedError):  # which of them depends on the device
        usable = False
    if not usable:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise ArgumentError(
            f"device: got {device}, on which PyTorch cannot compute here; expected {' or '.join(there)}"
        )
    return torch.device(device)


def same_data(data: str, other: str) -> bool:
    """Whether two names or paths mean the same data.

    >>> same_data("digits", "digits"), same_data("/tmp", "/tmp/."), same_data("digits", "cifar10")
    (True, True, False)
    """
    return data == other or (Path(data).exists() and Path(data).resolve() == Path(other).resolve())


def image_side(model: EmbeddingModel, data: str) -> int | None:
    """Return the side to which images of files are brought for a model; None where they are read as they are.

    Where a training of ours has sides of unequal length, it kept those of its images.
    """
    by_name = data in DATA_SETS or plugin_of(data) is not None
    if model.input_size is None or by_name or not Path(data).exists() or is_embeddings(data):
        return None
    height, width = model.input_size
    return max(height, width) if model.trained is None or height == width else None


def require_images(batch: Tensor, channels: int, name: str) -> None:
    """Raise `ArgumentError` unless a batch (B, c, h, w) is of images that a model of so many channels takes."""
    shape = tuple(batch.shape[1:])
    fits = len(shape) == 3 and shape[0] in {1, channels}
    require(fits, "data", f"examples of shape {shape}", f"images of 1 or {channels} channels for {name}")


def fitted(
    images: Tensor,  # (B, c, h, w) from 0 to 1, or (B, D)
    size: tuple[int, int] | None,
    channels: int | None,
) -> Tensor:
    """Images at another size (bicubic, antialiased), a gray channel repeated; vectors as they are.

    >>> fitted(torch.ones(2, 1, 8, 8), (4, 4), 3).shape
    torch.Size([2, 3, 4, 4])
    """
    if images.ndim != 4:
        return images
    if channels is not None and images.shape[1] == 1:
        images = images.expand(-1, channels, -1, -1)
    if size is None or tuple(images.shape[2:]) == size:
        return images
    return interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
