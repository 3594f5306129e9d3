"""Images brought to another size whenever a batch is made."""

from torch import Tensor
from torch.nn.functional import interpolate

from bisector.data.examples import Examples


class Resized:
    """Images of another size: the shorter side brought to it, antialiased, and the middle cut out.

    Args:
        examples: images.
        size: side in pixels.

    >>> import torch
    >>> from bisector.data.examples import InMemory
    >>> Resized(InMemory(torch.zeros(2, 3, 8, 12)), 16).batch(torch.tensor([0])).shape
    torch.Size([1, 3, 16, 16])
    """

    def __init__(self, examples: Examples, size: int) -> None:
        self._examples = examples
        self._size = size

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (channels, size, size)."""
        return (self._examples.shape[0], self._size, self._size)

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, positions: Tensor) -> Tensor:
        """Return these images at the new size."""
        images = self._examples.batch(positions)
        shorter = min(images.shape[2:])
        height, width = (max(self._size, round(side * self._size / shorter)) for side in images.shape[2:])
        images = interpolate(images, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
        top, left = (height - self._size) // 2, (width - self._size) // 2
        return images[:, :, top : top + self._size, left : left + self._size].contiguous()

    def select(self, positions: Tensor) -> "Resized":
        """Return the subset at these positions."""
        return Resized(self._examples.select(positions), self._size)

    def name(self, position: int) -> str:
        """Return the name that the example has."""
        return self._examples.name(position)
