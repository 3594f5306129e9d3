"""A small network for vectors."""

from torch import Tensor, nn


class MLP(nn.Module):
    """One hidden layer: linear, batch normalisation, ReLU. The hidden values are the embedding.

    Args:
        in_features: of a vector; images are flattened to `channels * height * width`.
        width: D, the size of the hidden layer.

    Attributes:
        embedding_dim: D.

    >>> import torch
    >>> MLP(12, width=64)(torch.zeros(5, 12)).shape
    torch.Size([5, 64])
    """

    def __init__(self, in_features: int, width: int = 256) -> None:
        super().__init__()
        self.embedding_dim = width
        self.hidden = nn.Sequential(
            nn.Linear(in_features, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
        )

    def forward(
        self,
        vectors: Tensor,  # (B, *shape)
    ) -> Tensor:
        """Return the (B, D) embeddings."""
        embeddings: Tensor = self.hidden(vectors.flatten(1))
        return embeddings
