"""A checkpoint of ours as a model that embeds."""

from pathlib import Path

import torch
from torch import Tensor

from bisector.embedding.model import EmbeddingModel
from bisector.errors import require
from bisector.training.classification import Trained, load_trained
from bisector.training.results import RESULT


class TrainedModel(EmbeddingModel):
    """The backbone and the head of a run of `bisector train`; the scores are the head's logits without a margin."""

    trained: Trained

    def __init__(self, path: Path, device: torch.device) -> None:
        self.name = str(path)
        self.trained = load_trained(path)
        if path.is_dir() and not (path / RESULT).is_file():
            self.notes = (
                f"the training has not ended: epoch {self.trained.epochs} of {self.trained.recipe.epochs}",
            )
        self.class_names = self.trained.class_names
        self._shape, self._device = self.trained.shape, device
        self.input_size = (self._shape[1], self._shape[2]) if len(self._shape) == 3 else None
        self._model = self.trained.model.to(device).eval()

    @torch.inference_mode()
    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return embeddings and logits."""
        shape = tuple(batch.shape[1:])
        require(shape == self._shape, "data", f"examples of shape {shape}", f"{self._shape}")
        embeddings = self._model.backbone(batch.to(self._device))
        return embeddings.float().cpu(), self._model.head.logits(embeddings).float().cpu()
