"""A TorchScript file as a model that embeds."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.embedding.model import EmbeddingModel, normalized, require_normalization
from bisector.embedding.outputs import chosen_outputs, named_outputs
from bisector.errors import ArgumentError, reason_of, require

_EXPECTED = "TorchScript: torch.jit.save(torch.jit.trace(model, example), FILE)"


class TorchScriptModel(EmbeddingModel):
    """A network that `torch.jit.save` wrote.

    What it returns may be a tensor, a tuple or a dictionary of tensors of shape (B, D) or (B, D, 1, 1).
    Scores are what is called so ("logits", "scores", ...) or is as wide as the data have classes; the
    embedding is what is called so, or the last of the others. A network that returns scores alone gives no
    embeddings. Images are given from 0 to 1, less `mean`, over `std`.

    Args:
        path: of the file.
        embedding_output: key of the dictionary, or place in the tuple ("0"), of the embedding; "output" where the
            network returns one tensor.
        scores_output: key or place of the scores.
        mean: of each channel, or of all; 0 if None.
        std: of each channel, or of all; 1 if None.
        device: that computes.

    Raises:
        ArgumentError: if the file cannot be read as TorchScript, or a number is not finite.
    """

    def __init__(
        self,
        path: Path,
        *,
        embedding_output: str | None = None,
        scores_output: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        device: torch.device,
    ) -> None:
        require_normalization(mean, std)
        self.name = str(path)
        self._asked = {"embedding": embedding_output, "scores": scores_output}
        self._mean, self._std, self._device = mean, std, device
        self._classes = 0
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

    def expect_classes(self, classes: int) -> None:
        """Take an output of this width for scores."""
        self._classes = classes

    @torch.inference_mode()
    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings, of no dimension where the network returns scores alone, and the scores."""
        given = normalized(batch, self._mean, self._std)
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
        widths = {name: value.shape[1] for name, value in found.items()}
        embedding, scores = chosen_outputs(widths, **self._asked, classes=self._classes)
        if embedding is None and len(found) > 1 and self._asked["scores"] is None:
            told = ", ".join(f"{name!r} ({width})" for name, width in widths.items())
            raise ArgumentError(
                f"embedding_output: got none for {self.name}, all of whose outputs seem to be scores: {told}; "
                "expected one of these names"
            )
        vectors = batch.new_zeros(len(batch), 0) if embedding is None else found[embedding]
        return vectors.float().cpu(), None if scores is None else found[scores].float().cpu()


def _told(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"shape {tuple(output.shape)}"
    return f"a {type(output).__name__}"
