"""What makes embeddings: one small protocol for every kind of model."""

from typing import Protocol

from torch import Tensor
from torch.nn.functional import interpolate


class Source(Protocol):
    """A model that turns examples into embeddings.

    `class_names` are those of the scores' columns; None if the model has no classes, or does not say which.
    `input_size` is the height and width that images are given at; None if the model takes any. `notes` are lines
    about what was chosen in loading the model.
    """

    @property
    def name(self) -> str:
        """Of the model, for a person."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Of the columns of the scores."""

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width of images."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was chosen, for a person."""

    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:  # (B, *shape) -> (B, D), (B, M)
        """Return the embeddings and, if the model has them, the scores (logits without a margin), on the CPU."""


def fitted(
    images: Tensor,  # (B, c, h, w) from 0 to 1, or (B, D)
    size: tuple[int, int] | None,
    channels: int | None,
) -> Tensor:
    """Images at another size (bicubic, antialiased), a gray channel repeated; vectors as they are.

    >>> import torch
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
