"""A folder of transformers (config.json beside weights) as a model that embeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.embedding.last_layer import listening
from bisector.embedding.model import EmbeddingModel, fitted, require_images
from bisector.embedding.outputs import named_outputs
from bisector.errors import ArgumentError, missing_extra, reason_of, require

CONFIG = "config.json"
_PROCESSOR = "preprocessor_config.json"
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_UNNAMED = "LABEL_"  # what transformers calls classes that nobody named


class TransformersModel(EmbeddingModel):
    """An image model that `save_pretrained` of transformers wrote.

    Of a classifier, scores are its logits and embeddings what the `nn.Linear` is given that gives them; of an
    encoder, embeddings are its pooled output. Images are prepared by the image processor of transformers that
    preprocessor_config.json describes, where it is there. Code in the folder is not run.

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
            self._processor: Any = None
            if (folder / _PROCESSOR).is_file():
                reader: Any = transformers.AutoImageProcessor
                self._processor = reader.from_pretrained(folder, **_LOCAL)
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
        self.input_size = _size(config.to_dict(), "image_size")
        if self._processor is not None:
            self.input_size = _given_size(self._processor.to_dict())
        else:
            self.notes = (f"{folder} without {_PROCESSOR}: pixels are given from 0 to 1",)

    @torch.inference_mode()
    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the pooled features, and the logits of a classifier."""
        require_images(batch, self._channels, self.name)
        with listening(self._model) as heard:
            try:
                given = {key: value.to(self._device) for key, value in self._prepared(batch).items()}
                output = self._model(**given)
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

    def _prepared(self, batch: Tensor) -> Mapping[str, Tensor]:
        """What the model is given: images from 0 to 1, as its processor prepares those from 0 to 255."""
        if self._processor is None:
            return {"pixel_values": fitted(batch, self.input_size, self._channels)}
        levels = fitted(batch, None, self._channels) * 255
        # Pixels of a file are whole, and a processor rounds them after resizing; others are not made to be.
        whole = levels.round().clamp(0, 255).to(torch.uint8)
        rounds = bool((levels - whole).abs().max() < 1e-3) or self._processor.backend != "torchvision"
        images = list((whole if rounds else levels).numpy())
        prepared: Mapping[str, Tensor] = self._processor(
            images=images, return_tensors="pt", input_data_format="channels_first"
        )
        return prepared


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


def _given_size(processor: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the images that a processor need not resize, so that what it crops is left to it.

    >>> _given_size({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}})
    (256, 256)
    >>> _given_size({"size": {"shortest_edge": 224}, "crop_pct": 0.875})
    (256, 256)
    """
    if processor.get("do_resize", True):
        size, share = _size(processor, "size"), processor.get("crop_pct") or 1.0
        return size and (int(size[0] / share), int(size[1] / share))
    return _size(processor, "crop_size") if processor.get("do_center_crop") else None


def _size(settings: Mapping[str, Any], key: str) -> tuple[int, int] | None:
    """Height and width, as a configuration notes them; None where it does not."""
    size = settings.get(key)
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    if isinstance(size, Mapping) and size.get("height") and size.get("width"):
        return int(size["height"]), int(size["width"])
    if isinstance(size, Mapping) and size.get("shortest_edge"):
        return int(size["shortest_edge"]), int(size["shortest_edge"])
    return None
