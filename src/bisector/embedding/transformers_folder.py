"""A folder of transformers (config.json beside weights) as a model that embeds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.embedding.last_layer import listening
from bisector.embedding.model import EmbeddingModel, fitted, normalized
from bisector.embedding.outputs import named_outputs
from bisector.errors import ArgumentError, missing_extra, reason_of, require

CONFIG = "config.json"
_PROCESSOR = "preprocessor_config.json"
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_UNNAMED = "LABEL_"  # what transformers calls classes that nobody named


class TransformersModel(EmbeddingModel):
    """An image model that `save_pretrained` of transformers wrote.

    Of a classifier, scores are its logits and embeddings what the `nn.Linear` is given that gives them; of an
    encoder, embeddings are its pooled output. Images have the size, mean and standard deviation of
    preprocessor_config.json, where it is there. Code in the folder is not run.

    Args:
        folder: with config.json and weights.
        device: that computes.

    Raises:
        ArgumentError: if the folder cannot be read, or lacks weights of the model.
        MissingExtraError: without transformers.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        try:
            import transformers
        except ImportError:
            raise missing_extra("transformers", "hf") from None
        self.name, self._device = str(folder), device
        try:
            # Left out, trust_remote_code lets transformers ask on the terminal whether the folder's code shall run.
            config = transformers.AutoConfig.from_pretrained(folder, **_LOCAL)
            classifies = any("ForImageClassification" in name for name in config.architectures or ())
            kind: Any = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
            model, loading = kind.from_pretrained(folder, config=config, output_loading_info=True, **_LOCAL)
            processor = json.loads(path.read_bytes()) if (path := folder / _PROCESSOR).is_file() else {}
        except Exception as error:  # of every kind
            reason = reason_of(error, whole=False)
            raise ArgumentError(
                f"model: {folder} cannot be read as a model of transformers: {reason}"
            ) from None
        absent = sorted(map(str, loading["missing_keys"]))  # which transformers draws at random
        got = f"{folder} without the weights {', '.join(absent[:3])}"
        require(not absent, "model", got, "the weights of the whole model")
        self._model: Any = model.to(device).eval()
        self._classifies = classifies
        self.class_names = class_names_of(config) if classifies else None
        self._channels = int(getattr(config, "num_channels", 3))
        side = getattr(config, "image_size", None)
        self.input_size = _size(processor) or _size({"size": side})
        self._mean, self._std = (_numbers(processor, key) for key in ("image_mean", "image_std"))
        if not processor:
            self.notes = (f"{folder} without {_PROCESSOR}: pixels are given from 0 to 1",)

    @torch.inference_mode()
    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the pooled features, and the logits of a classifier."""
        shape = tuple(batch.shape[1:])
        fits = len(shape) == 3 and shape[0] in {1, self._channels}
        legal = f"images of 1 or {self._channels} channels for {self.name}"
        require(fits, "data", f"examples of shape {shape}", legal)
        images = normalized(fitted(batch, self.input_size, self._channels), self._mean, self._std)
        with listening(self._model) as heard:
            try:
                output = self._model(pixel_values=images.to(self._device))
            except Exception as error:
                reason = reason_of(error, whole=False)
                raise ArgumentError(f"model: {self.name} does not take these images: {reason}") from None
        if self._classifies:
            return heard.vectors(len(batch), output.logits.shape[1]), output.logits.float().cpu()
        pooled = named_outputs(output).get("pooler_output")
        require(
            pooled is not None, "model", f"{self.name} without a pooled output", "an image model with one"
        )
        assert pooled is not None
        return pooled.float().cpu(), None


def class_names_of(config: Any) -> tuple[str, ...] | None:
    """The names of the classes that a configuration of transformers holds; None where nobody named them.

    >>> from types import SimpleNamespace
    >>> class_names_of(SimpleNamespace(id2label={1: "owl", 0: "crow"}))
    ('crow', 'owl')
    """
    noted = getattr(config, "id2label", None)
    if not isinstance(noted, Mapping) or not noted or set(noted) != set(range(len(noted))):
        return None
    names = tuple(str(noted[number]) for number in range(len(noted)))
    unnamed = all(name == f"{_UNNAMED}{number}" for number, name in enumerate(names))
    return None if unnamed or len(set(names)) < len(names) else names


def _size(processor: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that images are given at, as a processor notes it."""
    for key in ("crop_size", "size"):
        size = processor.get(key)
        if isinstance(size, int):
            return size, size
        if isinstance(size, list | tuple) and len(size) == 2:
            return int(size[0]), int(size[1])
        if isinstance(size, dict) and {"height", "width"} <= size.keys():
            return int(size["height"]), int(size["width"])
        if isinstance(size, dict) and "shortest_edge" in size:
            return int(size["shortest_edge"]), int(size["shortest_edge"])
    return None


def _numbers(processor: Mapping[str, Any], key: str) -> list[float] | None:
    values = processor.get(key) if processor.get("do_normalize", True) else None
    return None if values is None else [float(value) for value in values]
