"""Exact scatter matrices `M2 = sum_i w_i d_i d_i^T` of rows about their mean: by rows, or by half the matrix."""

from math import log2, sqrt

import torch
from torch import Tensor

TILE = 128
"""Rows of a tile: narrower ones save more of the symmetric half and multiply more slowly."""

_ROWS = 4096  # products of float32 rows are summed in float32 over no more than these


class Centred:
    """M2 as `D^T D`: rows about their mean, each times the root of its weight.

    Args:
        deviations: (m, p), these rows, float32 or float64.
        trace: of M2.
        roots: (m,), the roots of the weights; None where all weights are 1.
    """

    def __init__(self, deviations: Tensor, trace: float, roots: Tensor | None = None) -> None:
        self.deviations, self.trace, self.roots = deviations, trace, roots

    @property
    def single(self) -> bool:
        """Whether float32 products are in it."""
        return self.deviations.dtype == torch.float32

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.deviations.nbytes

    def image(self, vector: Tensor) -> Tensor:
        """`M2 v`: (p,) float64."""
        rows = self.deviations
        return (rows.T @ (rows @ vector.to(rows.dtype))).double()

    def rows(self) -> Tensor:
        """Rows F with `F^T F = M2`: (m, p)."""
        return self.deviations

    def gram(self) -> Tensor:
        """A float64 matrix with the non-null eigenvalues of M2: m - 1, as the mean has taken one direction."""
        rows = self.deviations
        count, dim = rows.shape
        if count > dim:
            return products(rows)
        # D^T r = 0 for the roots r, so the reflection of r to the first axis leaves M2 to the other rows.
        if self.roots is None:
            fewer = rows[1:] - rows[0] / (sqrt(count) + 1)
        else:
            share = self.roots[1:] / (self.roots.norm() + self.roots[0])
            fewer = rows[1:] - share[:, None] * rows[0]
        return (fewer @ fewer.T).double()


class Packed:
    """M2 by the upper half of its tiles, float64: about `p (p + 128) / 2` numbers instead of `p^2`.

    Row i of tiles holds the columns from its own diagonal on, so that each row of tiles is one matrix product.

    Args:
        dim: p.
        values: (packed_size(p),) the tiles, one after another; zeros where not given.
        single: whether float32 products are in it.

    >>> packed = Packed(2)
    >>> packed.add_rows_(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    >>> packed.gram()
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
            tiles, single = self._products(part)
            for (_, tile), product in zip(self.tiles, tiles, strict=True):
                tile.add_(product)
            self.single |= single

    def add_row_(
        self,
        row: Tensor,  # (p,) float64
    ) -> None:
        """Add `row row^T`."""
        for start, tile in self.tiles:
            tile.addr_(row[start : start + len(tile)], row[start:])

    def add_(self, other: "Packed") -> None:
        """Add another."""
        self.values.add_(other.values)
        self.single |= other.single

    def _products(self, rows: Tensor) -> tuple[list[Tensor], bool]:
        """The tiles of `rows^T rows`, and whether they are float32."""
        for part in (rows, rows.double()) if rows.dtype == torch.float32 else (rows,):
            tiles = [part[:, at : at + len(tile)].T @ part[:, at:] for at, tile in self.tiles]
            if part.dtype == torch.float64 or _bears_single(tiles, len(rows)):
                break
        return tiles, part.dtype == torch.float32

    @property
    def trace(self) -> float:
        """The trace of M2."""
        return sum(float(tile.diagonal().sum()) for _, tile in self.tiles)

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles."""
        return self.values.nbytes

    def image(self, vector: Tensor) -> Tensor:
        """`M2 v`: (p,)."""
        image = torch.zeros_like(vector)
        for start, tile in self.tiles:
            end = start + len(tile)
            image[start:end] += tile @ vector[start:]
            image[end:] += tile[:, len(tile) :].T @ vector[start:end]
        return image

    def gram(self) -> Tensor:
        """M2: (p, p)."""
        matrix = self.values.new_empty(self.dim, self.dim)
        for start, tile in self.tiles:
            end = start + len(tile)
            matrix[start:end, start:] = tile
            matrix[end:, start:end] = tile[:, len(tile) :].T
        return matrix

    def rows(self) -> Tensor:
        """Rows F with `F^T F = M2`: (p, p)."""
        values, vectors = torch.linalg.eigh(self.gram())
        rows: Tensor = (vectors * values.clamp(min=0).sqrt()).T
        return rows

    def scaled(self, weight: float) -> "Packed":
        """`weight` times this, as a new one."""
        return Packed(self.dim, self.values * weight, single=self.single)


def products(
    rows: Tensor,  # (m, p)
) -> Tensor:
    """`rows^T rows`: (p, p) float64, with the products and sums of `Packed.add_rows_`."""
    if len(rows) <= _ROWS and rows.shape[1] <= 2 * TILE:
        product = rows.T @ rows
        if rows.dtype == torch.float64 or _bears_single([product], len(rows)):
            return product.double()
        return rows.double().T @ rows.double()
    packed = Packed(rows.shape[1])
    packed.add_rows_(rows)
    return packed.gram()


def packed_size(dim: int) -> int:
    """How many numbers `Packed` holds.

    >>> packed_size(2), packed_size(1024) / 1024**2
    (4, 0.5625)
    """
    return sum(min(TILE, dim - start) * (dim - start) for start in range(0, dim, TILE))


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
