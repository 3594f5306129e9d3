"""A checkpoint of ours as a source of embeddings."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bisector.errors import require

if TYPE_CHECKING:
    from bisector.training.checkpoint import Trained


class TrainedSource:
    """The backbone and the head of a run of `bisector train`; the scores are the head's logits without a margin.

    Args:
        trained: as `bisector.training.checkpoint.load_trained` returns it.
        path: where it was read from.
        device: that computes.
    """

    def __init__(self, trained: "Trained", path: str | Path, device: torch.device) -> None:
        self.trained = trained
        self._path = str(path)
        self._device = device
        self._model = trained.model.to(device).eval()

    @property
    def name(self) -> str:
        """The path of the checkpoint."""
        return self._path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes it was trained on."""
        return tuple(self.trained.class_names)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width of the images it was trained on; None for vectors."""
        shape = tuple(self.trained.shape)
        return (shape[1], shape[2]) if len(shape) == 3 else None

    @property
    def notes(self) -> tuple[str, ...]:
        """None: everything is in the checkpoint."""
        return ()

    @torch.inference_mode()
    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return embeddings and logits.

        Raises:
            ArgumentError: if the examples have another shape than those it was trained on.
        """
        shape = tuple(self.trained.shape)
        require(
            tuple(batch.shape[1:]) == shape, "data", f"examples of shape {tuple(batch.shape[1:])}", f"{shape}"
        )
        embeddings = self._model.backbone(batch.to(self._device))
        return embeddings.float().cpu(), self._model.head.logits(embeddings).float().cpu()
