"""An ONNX file as a model that embeds."""

import ast
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bisector.data.tables.columns import distinct_names
from bisector.embedding.file_model import FileModel
from bisector.embedding.model import fitted
from bisector.embedding.outputs import require_outputs
from bisector.errors import ArgumentError, missing_extra, reason_of, require

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_EXPECTED = (
    "an embedding: export what the last layer is given as an output too, or name one with --embedding-output"
)
_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


class OnnxModel(FileModel):
    """A network that onnxruntime computes.

    Of the outputs of two dimensions `chosen_outputs` says which is the embedding and which the scores, if there are
    any; scores are an embedding only where they are asked for by name. The names of the classes come from the
    file's metadata (`class_names` or `names`, JSON). Images are given from 0 to 1, less `mean`, over `std`, at the
    size that the file asks for, channels first or last; a batch of a fixed size is filled up.

    Args:
        path: of the file.
        device: that computes; a GPU if onnxruntime has one, else the CPU, if None.
        **asked: options of `FileModel`.

    Raises:
        ArgumentError: if the file cannot be read or has no such output or none but scores, a number is not finite,
            or onnxruntime does not compute on the device.
        MissingExtraError: without onnxruntime.
    """

    def __init__(self, path: Path, *, device: torch.device | None = None, **asked: Any) -> None:
        super().__init__(path, **asked)
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra("onnxruntime", "measure") from None
        providers = _providers(device, onnxruntime.get_available_providers())
        try:
            self._session: Any = onnxruntime.InferenceSession(path, providers=providers)
        except Exception as error:  # onnxruntime's own kinds share no base class
            raise ArgumentError(
                f"model: {path} cannot be read as ONNX: {reason_of(error, whole=False)}"
            ) from None
        self.providers: list[str] = self._session.get_providers()  # the first that can computes
        if device is not None and device.type == "cuda":  # which onnxruntime gives up with a warning alone
            require(_CUDA in self.providers, "device", f"{device}, which onnxruntime cannot use", "cpu")
        inputs = self._session.get_inputs()
        require(len(inputs) == 1, "model", f"{path} with {len(inputs)} inputs", "one input")
        self._input_name, kind, self._shape = inputs[0].name, inputs[0].type, inputs[0].shape
        require(kind in _TYPES, "model", f"{path} with an input of {kind}", "floating numbers")
        self._type = _TYPES[kind]
        self._channels_last = (
            len(self._shape) == 4 and self._shape[3] in {1, 3} and self._shape[1] not in {1, 3}
        )
        if len(self._shape) == 4:
            height, width = self._shape[1:3] if self._channels_last else self._shape[2:4]
            fixed = isinstance(height, int) and isinstance(width, int)
            self.input_size = (height, width) if fixed else None
        metadata = self._session.get_modelmeta().custom_metadata_map
        names = (_class_names(metadata.get(key, "")) for key in ("class_names", "names"))
        self.class_names = next(filter(None, names), None)
        outputs = self._session.get_outputs()
        self._widths: dict[str, int] = {out.name: out.shape[1] for out in outputs if len(out.shape) == 2}
        require(bool(self._widths), "model", f"{path} without an output of two dimensions", "one, (batch, D)")
        require_outputs(self._widths, **self._asked)
        self._outputs: list[str] = []

    def expect_classes(self, classes: int) -> None:
        """Choose the outputs, one of this width as scores where the file names no classes."""
        super().expect_classes(classes if len(self._widths) > 1 else 0)
        embedding, scores = self._chosen(self._widths)
        got = f"{self.name} with no output but scores ({', '.join(self._widths)})"
        require(embedding is not None, "model", got, _EXPECTED)
        self._outputs = [name for name in (embedding, scores) if name is not None]
        told = f", {scores!r} for the scores" if scores is not None else ""
        self.notes = (f"{self.name}: output {embedding!r} is taken for the embedding{told}",)

    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings and, if there is such an output, the scores."""
        if not self._outputs:
            self.expect_classes(0)
        rows = self._prepared(batch)
        fixed = self._shape[0]
        step = fixed if isinstance(fixed, int) else len(rows)
        parts = [self._run(rows[start : start + step], step) for start in range(0, len(rows), step)]
        embeddings, *scores = (torch.cat(columns) for columns in zip(*parts, strict=True))
        if self._asked["embedding_output"] is None and len(embeddings):
            sums = embeddings.double().sum(dim=1)
            shares = bool((embeddings >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
            got = f"{self.name}, whose output {self._outputs[0]!r} has shares that sum to 1: probabilities"
            require(not shares or embeddings.shape[1] == 1, "model", got, _EXPECTED)
        return embeddings, scores[0] if scores else None

    def _prepared(self, batch: Tensor) -> np.ndarray[Any, Any]:
        shape, got = self._shape, f"examples of shape {tuple(batch.shape[1:])}"
        legal = f"an input of shape {tuple(shape[1:])} for {self.name}"
        require(batch.ndim == len(shape), "data", got, legal)
        if batch.ndim == 4:
            channels = shape[3 if self._channels_last else 1]
            batch = fitted(batch, self.input_size, channels if isinstance(channels, int) else None)
        batch = self._normalized(batch)
        if self._channels_last:
            batch = batch.permute(0, 2, 3, 1)
        return np.ascontiguousarray(batch.numpy()).astype(self._type)

    def _run(self, rows: np.ndarray[Any, Any], size: int) -> list[Tensor]:
        filled = np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])
        try:
            results = self._session.run(self._outputs, {self._input_name: filled})
        except Exception as error:
            raise ArgumentError(
                f"model: {self.name} does not take these examples: {reason_of(error, whole=False)}"
            ) from None
        return [torch.from_numpy(result[: len(rows)].astype(np.float32)) for result in results]


def _providers(device: torch.device | None, there: Sequence[str]) -> list[Any]:
    """What onnxruntime computes with, the first that can; the CPU is always among them."""
    if device is None:
        return [name for name in (_CUDA, _CPU) if name in there]
    if device.type == "cpu":
        return [_CPU]
    usable = ["cuda"] * (_CUDA in there) + ["cpu"]
    fit = device.type == "cuda" and _CUDA in there
    require(fit, "device", f"{device}, which this onnxruntime does not have", " or ".join(usable))
    return [(_CUDA, {"device_id": device.index or 0}), _CPU]


def _class_names(note: str) -> tuple[str, ...] | None:
    """The names in a note: a list, or numbers with names, as JSON or Python writes them; None if it holds none.

    >>> _class_names("{1: 'owl', 0: 'crow'}"), _class_names('["crow", "crow"]')
    (('crow', 'owl'), ('crow (0)', 'crow (1)'))
    """
    found: Any = None
    for read in (json.loads, ast.literal_eval):  # Ultralytics writes the str() of a dictionary
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = read(note)
            break
    if isinstance(found, dict):
        numbers = {str(number): name for number, name in found.items()}
        whole = set(numbers) == {str(number) for number in range(len(numbers))}
        found = [numbers[str(number)] for number in range(len(numbers))] if whole else list(found.values())
    return distinct_names(found) if isinstance(found, list | tuple) and found else None
