"""Where the examples of a data set come from: anything that returns a batch by its positions."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


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

    def select(self, positions: Tensor) -> "Examples":  # (M,)
        """Return the subset at these positions, in this order; nothing is copied or read."""

    def name(self, position: int) -> str:
        """Say where an example comes from, for a person who wants to look at it."""


class InMemory:
    """Examples that are held as one tensor; bytes are scaled from 0..255 to 0..1 when a batch is made.

    Args:
        values: (N, *shape), of uint8 or floating.
        names: of the examples; the positions in `values` if None.

    >>> pixels = InMemory(torch.tensor([[0, 51], [102, 255]], dtype=torch.uint8))
    >>> pixels.select(torch.tensor([1])).batch(torch.tensor([0]))
    tensor([[0.4000, 1.0000]])
    """

    def __init__(
        self, values: Tensor, names: Sequence[str] | None = None, positions: Tensor | None = None
    ) -> None:
        self._values = values
        self._names = names
        self._positions = torch.arange(len(values)) if positions is None else positions

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return tuple(self._values.shape[1:])

    @property
    def values(self) -> Tensor:
        """All that is held, of which these examples may be a part."""
        return self._values

    def __len__(self) -> int:
        return len(self._positions)

    def batch(self, positions: Tensor) -> Tensor:
        """Return these examples as float32."""
        values = self._values[self._positions[positions]]
        return values.float().div_(255) if values.dtype == torch.uint8 else values.float()

    def select(self, positions: Tensor) -> "InMemory":
        """Return the subset at these positions; the values are shared."""
        return InMemory(self._values, self._names, self._positions[positions])

    def name(self, position: int) -> str:
        """Return the name that was given, or the position in the whole."""
        origin = int(self._positions[position])
        return str(origin) if self._names is None else self._names[origin]


class Joined:
    """Several sets of examples of one shape, one after the other.

    Args:
        pieces: at least one.

    >>> Joined([InMemory(torch.zeros(2, 1)), InMemory(torch.ones(2, 1))]).batch(torch.tensor([3, 0]))
    tensor([[1.],
            [0.]])
    """

    def __init__(self, pieces: Sequence[Examples], positions: Tensor | None = None) -> None:
        self._pieces = list(pieces)
        self._lengths = torch.tensor([len(piece) for piece in pieces])
        self._ends = self._lengths.cumsum(0)
        self._positions = torch.arange(int(self._ends[-1])) if positions is None else positions

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self._pieces[0].shape

    def __len__(self) -> int:
        return len(self._positions)

    def batch(self, positions: Tensor) -> Tensor:
        """Return these examples, each from its piece."""
        piece, within = self._find(self._positions[positions])
        values = torch.empty(len(within), *self.shape)
        for index in torch.unique(piece).tolist():
            rows = piece == index
            values[rows] = self._pieces[index].batch(within[rows])
        return values

    def select(self, positions: Tensor) -> "Joined":
        """Return the subset at these positions; the pieces are shared."""
        return Joined(self._pieces, self._positions[positions])

    def name(self, position: int) -> str:
        """Return the name that the example has in its piece."""
        piece, within = self._find(self._positions[position])
        return self._pieces[int(piece)].name(int(within))

    def _find(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        piece = torch.searchsorted(self._ends, positions, right=True)
        return piece, positions - (self._ends - self._lengths)[piece]
