"""Turns pixels into the numbers that a network expects."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    As part of the network it cannot be forgotten when the network is used elsewhere. Images of one channel are
    repeated where the network expects several.

    Args:
        mean: of each channel, for pixels from 0 to 1.
        std: of each channel.

    >>> Normalize([0.5], [0.25])(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)).flatten()
    tensor([-2.,  0.,  2.])
    """

    mean: Tensor  # (channels, 1, 1)
    std: Tensor  # (channels, 1, 1)

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(
        self,
        images: Tensor,  # (B, 1 or channels, height, width)
    ) -> Tensor:
        """Return the normalised (B, channels, height, width) images."""
        return (images - self.mean) / self.std
