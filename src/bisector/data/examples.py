"""Where the examples of a data set come from: anything that returns a batch by its positions."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, uint8
from torch.nn.functional import interpolate


class Examples(Protocol):
    """Inputs of a network, by position: images in memory, files, rows of a table.

    A batch is float32: (B, channels, height, width) with values from 0 to 1 for images, (B, D) for vectors. What a
    position returns never changes, so that a training that is resumed sees the same numbers.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (channels, height, width) or (D,)."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, positions: Tensor) -> Tensor:  # (B,) -> (B, *shape)
        """Return these examples."""

    def name(self, position: int) -> str:
        """Say where an example comes from, for a person who wants to look at it."""


class InMemory:
    """Examples that are held as one tensor; bytes are scaled from 0..255 to 0..1 when a batch is made.

    Args:
        values: (N, *shape), of uint8 or floating.
        names: of the examples; their positions if None.

    >>> import torch
    >>> InMemory(torch.tensor([[0, 51], [102, 255]], dtype=torch.uint8)).batch(torch.tensor([1]))
    tensor([[0.4000, 1.0000]])
    """

    def __init__(self, values: Tensor, names: Sequence[str] | None = None) -> None:
        self.values = values
        self.shape = tuple(values.shape[1:])
        self._names = names

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, positions: Tensor) -> Tensor:
        """Return these examples as float32."""
        values = self.values[positions]
        return values.float().div_(255) if values.dtype == uint8 else values.float()

    def name(self, position: int) -> str:
        """Return the name that was given, or the position."""
        return str(int(position)) if self._names is None else self._names[position]


class Subset:
    """Some of the examples of another set, in an order of their own; nothing is copied or read."""

    def __init__(self, whole: Examples, positions: Tensor) -> None:
        if isinstance(whole, Subset):
            positions = whole.positions[positions]
            whole = whole.whole
        self.whole: Examples = whole
        self.positions: Tensor = positions
        self.shape = whole.shape

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, positions: Tensor) -> Tensor:
        """Return these examples."""
        return self.whole.batch(self.positions[positions])

    def name(self, position: int) -> str:
        """Return the name that the example has in the whole."""
        return self.whole.name(int(self.positions[position]))


class Resized:
    """Images of another size: the shorter side brought to it, antialiased, and the middle cut out.

    >>> import torch
    >>> Resized(InMemory(torch.zeros(2, 3, 8, 12)), 16).batch(torch.tensor([0])).shape
    torch.Size([1, 3, 16, 16])
    """

    def __init__(self, examples: Examples, size: int) -> None:
        self._examples = examples
        self._size = size
        self.shape = (examples.shape[0], size, size)
        self.name = examples.name

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, positions: Tensor) -> Tensor:
        """Return these images at the new size."""
        images = self._examples.batch(positions)
        size, sides = self._size, images.shape[2:]
        height, width = (max(size, round(side * size / min(sides))) for side in sides)
        images = interpolate(images, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
        top, left = (height - size) // 2, (width - size) // 2
        return images[:, :, top : top + size, left : left + size].contiguous()
