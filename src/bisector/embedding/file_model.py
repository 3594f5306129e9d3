"""A network in a file that does not say which output is which, nor how images are given."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bisector.embedding.model import EmbeddingModel
from bisector.embedding.outputs import chosen_outputs
from bisector.errors import require


class FileModel(EmbeddingModel):
    """A network in a file of another library.

    Args:
        path: of the file.
        embedding_output: name of the output.
        scores_output: name of the output.
        mean: of each channel, or of all; 0 if None.
        std: of each channel, or of all; 1 if None.

    Raises:
        ArgumentError: a number is not finite, or a standard deviation is not above 0.
    """

    def __init__(
        self,
        path: Path,
        *,
        embedding_output: str | None = None,
        scores_output: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        for key, values in (("mean", mean), ("std", std)):
            fit = values is None or all(math.isfinite(v) and (v > 0 or key == "mean") for v in values)
            require(fit, key, values, "finite numbers" if key == "mean" else "numbers above 0")
        self.name = str(path)
        self._asked = {"embedding_output": embedding_output, "scores_output": scores_output}
        self._mean, self._std = mean, std
        self._classes = 0

    def expect_classes(self, classes: int) -> None:
        """Take an output of this width for scores, where the file names no classes."""
        self._classes = len(self.class_names or ()) or classes

    def _chosen(self, widths: Mapping[str, int]) -> tuple[str | None, str | None]:
        return chosen_outputs(widths, **self._asked, classes=self._classes)

    def _normalized(self, batch: Tensor) -> Tensor:  # (B, channels, ...)
        """Examples less the mean and over the standard deviation.

        Raises:
            ArgumentError: if there are neither one nor as many numbers as channels.
        """
        for key, values, turn in (("mean", self._mean, torch.sub), ("std", self._std, torch.div)):
            if values is not None:
                wanted = batch.shape[1]
                fit = len(values) in {1, wanted}
                require(fit, key, f"{len(values)} numbers", f"1 or {wanted}, a number a channel")
                sides = (-1, *[1] * (batch.ndim - 2))
                batch = turn(batch, torch.tensor(values, dtype=torch.float32).reshape(sides))
        return batch
