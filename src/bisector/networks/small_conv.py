"""A small network for small images."""

from torch import Tensor, nn


class SmallConvNet(nn.Module):
    """Two stages of a 3x3 convolution, normalisation and pooling; then a linear layer to the embedding.

    Args:
        in_channels: of the images.
        embedding_dim: D; without the linear layer if None, and D is then 8 times the width.
        width: channels of the first stage; the second has twice as many.

    Attributes:
        embedding_dim: D.

    >>> import torch
    >>> SmallConvNet(1, 32)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 32])
    """

    def __init__(self, in_channels: int, embedding_dim: int | None = None, width: int = 32) -> None:
        super().__init__()
        stages = _stage(in_channels, width), _stage(width, 2 * width)
        self.stages = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(2))
        own = 2 * width * 4
        self.embedding_dim = own if embedding_dim is None else embedding_dim
        self.embed = nn.Identity() if embedding_dim is None else nn.Linear(own, embedding_dim)

    def forward(
        self,
        images: Tensor,  # (B, channels, height, width)
    ) -> Tensor:
        """Return the (B, D) embeddings."""
        embeddings: Tensor = self.embed(self.stages(images).flatten(1))
        return embeddings


def _stage(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
