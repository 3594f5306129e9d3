"""A TorchScript file as a model that embeds."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.embedding.file_model import FileModel
from bisector.embedding.outputs import named_outputs
from bisector.errors import ArgumentError, reason_of, require

_EXPECTED = "TorchScript: torch.jit.save(torch.jit.trace(model, example), FILE)"


class TorchScriptModel(FileModel):
    """A network that `torch.jit.save` wrote.

    What it returns may be a tensor, a tuple or a dictionary of tensors of shape (B, D) or (B, D, 1, 1).
    `chosen_outputs` says which is the embedding and which the scores. A network that returns scores alone gives no
    embeddings. Images are given from 0 to 1, less `mean`, over `std`.

    Args:
        path: of the file.
        device: that computes.
        **asked: options of `FileModel`. The name of an output is a key of the dictionary, a place in the tuple
            ("0"), or "output" where the network returns one tensor.

    Raises:
        ArgumentError: if the file cannot be read as TorchScript, or a number is not finite.
    """

    def __init__(self, path: Path, *, device: torch.device, **asked: Any) -> None:
        super().__init__(path, **asked)
        self._device = device
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that TorchScript is deprecated helps nobody who has a file
                load: Any = torch.jit.load
                self._network: Any = load(str(path), map_location=device).eval()
        except Exception as error:
            reason = reason_of(error, whole=False)
            weights = "; weights alone are given with timm/NAME --weights FILE"
            raise ArgumentError(
                f"model: {path} cannot be read as TorchScript: {reason}; expected {_EXPECTED}{weights}"
            ) from None

    @torch.inference_mode()
    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings, of no dimension where the network returns scores alone, and the scores."""
        given = self._normalized(batch)
        try:
            output = self._network(given.to(self._device))
        except Exception as error:  # what TorchScript raises has no base class
            raise ArgumentError(
                f"model: {self.name} does not take examples of shape {tuple(batch.shape[1:])}: "
                f"{reason_of(error, whole=False)}"
            ) from None
        found = {name: value for name, value in named_outputs(output).items() if len(value) == len(batch)}
        legal = "a tensor (B, D), or a tuple or dictionary of them"
        require(bool(found), "model", f"{self.name}, which returns {_told(output)}", legal)
        embedding, scores = self._chosen({name: value.shape[1] for name, value in found.items()})
        vectors = batch.new_zeros(len(batch), 0) if embedding is None else found[embedding]
        return vectors.float().cpu(), None if scores is None else found[scores].float().cpu()


def _told(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"shape {tuple(output.shape)}"
    return f"a {type(output).__name__}"
