"""Scatter matrices `M2 = sum_i d_i d_i^T` of centred rows, each kept in the cheapest form that is exact."""

from collections.abc import Iterator
from math import log2
from typing import Protocol, Self

import torch
from torch import Tensor

TILE = 128
"""Rows of a tile: narrower ones save more of the symmetric half and multiply more slowly."""

_ROWS = 4096  # products of float32 rows are summed in float32 over no more than these


class Scatter(Protocol):
    """What the moments of a class ask of their scatter matrix."""

    dim: int

    @property
    def trace(self) -> float:
        """The trace of M2, exact in every form."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""

    def image(self, vector: Tensor) -> Tensor:
        """`M2 v`: (p,)."""

    def gram(self) -> Tensor:
        """A (k, k) matrix with the non-null eigenvalues of M2, k at most p."""

    def full(self) -> Tensor:
        """M2: (p, p)."""

    def rows(self) -> Tensor:
        """Rows F with `F^T F = M2`: (k, p)."""

    def scaled(self, weight: float) -> Self:
        """`weight` times this, as a new one."""

    def copy(self) -> Self:
        """One that shares nothing with this."""


class Factor:
    """M2 as `F^T F`, with F (k, p) float64 and fewer rows than p.

    >>> Factor(torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64)).full().diagonal()
    tensor([1., 4., 0.], dtype=torch.float64)
    """

    def __init__(
        self,
        factor: Tensor,  # (k, p)
    ) -> None:
        self.factor = factor
        self.dim = factor.shape[1]

    @property
    def trace(self) -> float:
        """See `Scatter`."""
        return float(self.factor.square().sum())

    @property
    def nbytes(self) -> int:
        """See `Scatter`."""
        return self.factor.nbytes

    def image(self, vector: Tensor) -> Tensor:
        """See `Scatter`."""
        return self.factor.T @ (self.factor @ vector)

    def gram(self) -> Tensor:
        """See `Scatter`."""
        return self.factor @ self.factor.T

    def full(self) -> Tensor:
        """See `Scatter`."""
        return self.factor.T @ self.factor

    def rows(self) -> Tensor:
        """See `Scatter`."""
        return self.factor

    def scaled(self, weight: float) -> "Factor":
        """See `Scatter`."""
        return Factor(self.factor * weight**0.5)

    def copy(self) -> "Factor":
        """See `Scatter`."""
        return Factor(self.factor.clone())


class Packed:
    """M2 by the upper half of its tiles, float64: about `p (p + 128) / 2` numbers instead of `p^2`.

    Row i of tiles holds the columns from its own diagonal on, so that each row of tiles is one matrix product.

    Args:
        dim: p.
        values: (packed_size(p),) the tiles, one after another; zeros where not given.
        single: whether float32 products are in it.

    >>> packed = Packed(2)
    >>> packed.add_rows_(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    >>> packed.full()
    tensor([[ 1.,  2.],
            [ 2., 13.]], dtype=torch.float64)
    """

    def __init__(self, dim: int, values: Tensor | None = None, *, single: bool = False) -> None:
        self.dim, self.single = dim, single
        if values is None:
            values = torch.zeros(packed_size(dim), dtype=torch.float64, device="cpu")
        self.values = values
        self.tiles: list[tuple[int, Tensor]] = []
        at = 0
        for start in range(0, dim, TILE):
            height, width = min(TILE, dim - start), dim - start
            self.tiles.append((start, values[at : at + height * width].view(height, width)))
            at += height * width

    def add_rows_(
        self,
        rows: Tensor,  # (m, p)
    ) -> None:
        """Add `rows^T rows`: products in the dtype of the rows, float32 or float64, sums in float64.

        Float32 sums run over at most 4,096 rows, so that their rounding does not grow with the number of
        rows. Where one direction so dominates the others that it would be more than they can bear, they are
        done again in float64.
        """
        for part in torch.split(rows, _ROWS):
            products, single = self._products(part)
            for (_, tile), product in zip(self.tiles, products, strict=True):
                tile.add_(product)
            self.single |= single

    def add_outer_(
        self,
        row: Tensor,  # (p,)
    ) -> None:
        """Add `row row^T`, in float64."""
        for start, tile in self.tiles:
            tile.addr_(row[start : start + len(tile)], row[start:])

    def _products(self, rows: Tensor) -> tuple[list[Tensor], bool]:
        """The tiles of `rows^T rows`, and whether they are float32."""
        for part in (rows, rows.double()) if rows.dtype == torch.float32 else (rows,):
            products = [part[:, at : at + len(tile)].T @ part[:, at:] for at, tile in self.tiles]
            if part.dtype == torch.float64 or _bears_single(products, len(rows)):
                break
        return products, part.dtype == torch.float32

    def add_(self, other: "Packed") -> None:
        """Add another."""
        self.values.add_(other.values)
        self.single |= other.single

    @property
    def trace(self) -> float:
        """See `Scatter`."""
        return sum(float(tile.diagonal().sum()) for _, tile in self.tiles)

    @property
    def nbytes(self) -> int:
        """See `Scatter`."""
        return self.values.nbytes

    def image(self, vector: Tensor) -> Tensor:
        """See `Scatter`."""
        image = torch.zeros_like(vector)
        for start, tile in self.tiles:
            end = start + len(tile)
            image[start:end] += tile @ vector[start:]
            image[end:] += tile[:, len(tile) :].T @ vector[start:end]
        return image

    def gram(self) -> Tensor:
        """See `Scatter`."""
        return self.full()

    def full(self) -> Tensor:
        """See `Scatter`."""
        matrix = self.values.new_empty(self.dim, self.dim)
        for start, tile in self.tiles:
            end = start + len(tile)
            matrix[start:end, start:] = tile
            matrix[end:, start:end] = tile[:, len(tile) :].T
        return matrix

    def rows(self) -> Tensor:
        """See `Scatter`."""
        values, vectors = torch.linalg.eigh(self.full())
        rows: Tensor = (vectors * values.clamp(min=0).sqrt()).T
        return rows

    def scaled(self, weight: float) -> "Packed":
        """See `Scatter`."""
        return Packed(self.dim, self.values * weight, single=self.single)

    def copy(self) -> "Packed":
        """See `Scatter`."""
        return Packed(self.dim, self.values.clone(), single=self.single)


def products(
    rows: Tensor,  # (m, p)
) -> Tensor:
    """`rows^T rows`: (p, p) float64, with the products and sums of `Packed.add_rows_`.

    >>> products(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    tensor([[ 1.,  2.],
            [ 2., 13.]], dtype=torch.float64)
    """
    if len(rows) <= _ROWS and rows.shape[1] <= 2 * TILE:
        product = rows.T @ rows
        if rows.dtype == torch.float64 or _bears_single([product], len(rows)):
            return product.double()
        return rows.double().T @ rows.double()
    packed = Packed(rows.shape[1])
    packed.add_rows_(rows)
    return packed.full()


def _bears_single(tiles: list[Tensor], count: int) -> bool:
    """Whether the volume of a covariance bears products in float32, from their tiles.

    They are off by about `eps` of the largest eigenvalue l, which costs the volume some `0.1 eps l` bits where the
    others are small. That is a ten-millionth part or so as long as l is below 20 times the volume's bits; the
    volume is estimated as that of `tr^2 / |Sigma|^2` equal eigenvalues, and l by the norm, which is no less.
    """
    squares = sum(2 * float(torch.linalg.vector_norm(tile)) ** 2 for tile in tiles) / count**2
    trace = sum(float(tile.diagonal().sum()) for tile in tiles) / count
    if squares <= 0 or trace <= 0:  # nothing, or so little that it holds nothing
        return True
    bits = 0.5 * trace**2 / squares * log2(1 + squares / trace)
    return bool(squares**0.5 <= 20 * bits)


def packed_size(dim: int) -> int:
    """How many numbers `Packed` holds.

    >>> packed_size(2), packed_size(1024) / 1024**2
    (4, 0.5625)
    """
    return sum(_sizes(dim))


def _sizes(dim: int) -> Iterator[int]:
    for start in range(0, dim, TILE):
        yield min(TILE, dim - start) * (dim - start)
