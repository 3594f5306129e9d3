"""Frequent Directions: a scatter matrix in a few rows, with a bound on what is missing."""

from math import sqrt

import torch
from torch import Tensor

_UNIT = 2.0**-24  # the relative rounding of a float32


class Sketch:
    r"""M2 as `B^T B + R`, with B (k, p) float32 of at most 2 `size` rows, and R known to be small.

    Rows are appended until there are more than 2 `size`; then the `size` largest eigenvalues of `B^T B` are
    kept, each less the next one, which is added to `missing`. So

    .. math:: -\mathrm{rounding}\, I \preceq R \preceq (\mathrm{missing} + \mathrm{rounding})\, I

    and the trace of R is known, since that of M2 is. Of all sketches of that size none has a better worst
    case, up to a constant; it is deterministic, needs no look ahead, and two of them merge by appending one's
    rows to the other's.

    Args:
        dim: p.
        size: rows that are kept, at least 1.

    Attributes:
        sketch: B.
        trace: of M2, exact.
        missing: the largest eigenvalue that R can have, but for rounding.
        rounding: bounds what storing B and its rows in float32 does.

    Source: Liberty 2013; Ghashami, Liberty, Phillips and Woodruff 2016, Frequent Directions, SIAM Journal on
    Computing 45(5).

    >>> sketch = Sketch(dim=3, size=1)
    >>> sketch.add_rows_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]))
    >>> sketch.rows().round(decimals=6).abs(), round(sketch.missing, 6), sketch.trace
    (tensor([[2.2361, 0.0000, 0.0000]], dtype=torch.float64), 4.0, 14.0)
    """

    single = True  # float32 numbers are in it

    def __init__(self, dim: int, size: int) -> None:
        self.dim, self.size = dim, size
        self.sketch = torch.empty(0, dim, dtype=torch.float32, device="cpu")
        self.trace = 0.0
        self.missing = 0.0
        self.rounding = 0.0

    def add_rows_(
        self,
        rows: Tensor,  # (m, p)
    ) -> None:
        """Add `rows^T rows`."""
        precise = rows.double()
        added = float(precise.square().sum())
        self.trace += added
        self.rounding += 2 * _UNIT * added
        if len(self.sketch) + len(rows) <= 2 * self.size:
            self.sketch = torch.cat([self.sketch, rows.float()])
        else:
            self._keep(torch.cat([self.sketch.double(), precise]))

    def add_row_(
        self,
        row: Tensor,  # (p,)
    ) -> None:
        """Add `row row^T`."""
        self.add_rows_(row[None])

    def add_(self, other: "Sketch") -> None:
        """Add another, whose missing part stays missing."""
        trace, missing, rounding = self.trace + other.trace, other.missing, other.rounding
        self.add_rows_(other.sketch)
        self.trace, self.missing, self.rounding = trace, self.missing + missing, self.rounding + rounding

    def resize_(self, size: int) -> None:
        """Keep fewer rows from now on."""
        self.size = size
        if len(self.sketch) > 2 * size:
            self._keep(self.sketch.double())

    def _keep(self, rows: Tensor) -> None:
        """Keep the `size` largest directions of these rows, by the smaller of the two products."""
        tall = len(rows) > self.dim
        values, vectors = torch.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
        cut = max(0, len(values) - self.size)
        below = float(values[cut - 1].clamp(min=0)) if cut else 0.0
        kept = values[cut:]
        alive = kept > below
        kept, directions = kept[alive], vectors[:, cut:][:, alive]
        lengths = (kept - below).sqrt()
        kept_rows = (
            directions.T * lengths[:, None]
            if tall
            else directions.T @ rows * (lengths / kept.sqrt())[:, None]
        )
        self.sketch = kept_rows.float()
        self.missing += below
        self.rounding += self._rounding_of(float(values[-1]), float((kept - below).sum()))

    def _rounding_of(self, largest: float, trace: float) -> float:
        """What float32 does to the rows kept, and float64 to the eigenvalues."""
        error = _UNIT * sqrt(trace)
        largest = max(largest, 0.0)
        return 2 * sqrt(largest) * error + error**2 + self.dim * 2.0**-52 * largest

    @property
    def nbytes(self) -> int:
        """Bytes of B."""
        return self.sketch.nbytes

    def image(self, vector: Tensor) -> Tensor:
        """`B^T B v`, off from `M2 v` by at most `(missing + rounding) |v|`: (p,)."""
        rows = self.rows()
        return rows.T @ (rows @ vector)

    def gram(self) -> Tensor:
        """The smaller of `B B^T` and `B^T B`."""
        rows = self.rows()
        return rows @ rows.T if len(rows) <= self.dim else rows.T @ rows

    def rows(self) -> Tensor:
        """B in float64: (k, p)."""
        return self.sketch.double()

    def scaled(self, weight: float) -> "Sketch":
        """`weight` times this, as a new one; of weight 1 a copy."""
        other = Sketch(self.dim, self.size)
        other.sketch = self.sketch * weight**0.5
        other.trace, other.missing = self.trace * weight, self.missing * weight
        rounded = 2 * _UNIT * self.trace if weight != 1 else 0.0
        other.rounding = (self.rounding + rounded) * weight
        return other
