"""From what the user calls a model to a source of embeddings."""

from collections.abc import Sequence
from pathlib import Path

import torch

from bisector.data.places import resolvable
from bisector.embedding.device import require_device
from bisector.embedding.source import Source
from bisector.errors import ArgumentError

_KINDS = "a folder of a run, a .ckpt, timm/NAME, torchvision/NAME, or a file.onnx"


def source_of(
    model: str,
    *,
    pretrained: bool = True,
    weights: Path | None = None,
    embedding_output: str | None = None,
    scores_output: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | None = None,
) -> Source:
    """Return the source of embeddings that `model` names.

    Args:
        model: a run or a checkpoint of `bisector train`, `timm/NAME`, `torchvision/NAME`, or an ONNX file.
        pretrained: whether a published network has its published weights.
        weights: a file of weights for a published network.
        embedding_output: of an ONNX file.
        scores_output: of an ONNX file.
        mean: of the channels, for an ONNX file.
        std: of the channels, for an ONNX file.
        device: that computes; a GPU if there is one, else the CPU, if None.

    Raises:
        ArgumentError: if there is no such model, or it cannot be loaded, or an option is not for its kind.
    """
    path = Path(resolvable(model))  # what the file of embeddings names is found from any folder
    published = model.startswith(("timm/", "torchvision/")) and not path.exists()
    onnx = path.suffix.lower() == ".onnx"
    for name, given, fits in (
        ("weights", weights, published),
        ("embedding_output", embedding_output, onnx),
        ("scores_output", scores_output, onnx),
        ("mean", mean, onnx),
        ("std", std, onnx),
    ):
        if given is not None and not fits:
            kind = "an ONNX file" if name != "weights" else "timm/NAME or torchvision/NAME"
            raise ArgumentError(f"{name}: got {given} for {model}; expected it only with {kind}")
    if onnx and path.exists():
        from bisector.embedding.onnx_file import OnnxSource

        return OnnxSource(
            path,
            embedding_output=embedding_output,
            scores_output=scores_output,
            mean=mean,
            std=std,
            device=device,
        )
    if not published and not path.exists():
        raise ArgumentError(f"model: got {model!r}, which is not there; expected {_KINDS}")
    where = require_device(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if published:
        from bisector.embedding.published import PublishedSource

        return PublishedSource(model, pretrained=pretrained, weights=weights, device=where)
    if path.is_dir() or path.suffix.lower() == ".ckpt":
        from bisector.embedding.trained import TrainedSource
        from bisector.training.checkpoint import load_trained

        return TrainedSource(load_trained(path), path, where)
    raise ArgumentError(f"model: got {model!r}; expected {_KINDS}")
