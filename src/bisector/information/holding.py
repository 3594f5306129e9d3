"""What a meter keeps of one class: rows as they came while they are few, moments from then on."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.information.gram import Gram
from bisector.statistics.moments import Moments
from bisector.statistics.scatter import Factor
from bisector.statistics.sketch import Sketch

Form: TypeAlias = Literal["rows", "scatter", "sketch"]
"""How a class is stored: its rows (or as many in their place), one half of p x p numbers, or a sketch."""


FEWEST_FOLDED = 64
"""Rows below which folding costs more in calls than in products."""


class Holding:
    """The rows of one class that were not folded yet, and the moments of those that were.

    A class of n instances keeps n rows of p numbers while n < p, as they came; the packed scatter matrix from
    then on, with fewer than p rows that wait to be folded into it together; a sketch where the meter says so.
    (Of narrow embeddings up to 64 rows wait, whatever p is.)

    Args:
        dim: p.
        moments: of the rows folded so far.

    >>> holding = Holding(dim=2)
    >>> holding.append(torch.eye(2)[:1]), holding.form, holding.count
    (None, 'rows', 1.0)
    >>> holding.append(torch.ones(80, 2)), holding.form, holding.count
    (None, 'scatter', 81.0)
    """

    def __init__(self, dim: int, moments: Moments | None = None) -> None:
        self.dim = dim
        self.moments = moments
        self.rows: list[Tensor] = []
        self.waiting = 0

    def append(
        self,
        rows: Tensor,  # (m, p)
    ) -> None:
        """Take in m >= 1 finite rows, as `precise` gives them, which nobody else changes."""
        self.waiting += rows.shape[0]
        if self.waiting >= self._limit:
            self._fold(torch.cat([*self.rows, rows]) if self.rows else rows)
        else:
            self.rows.append(rows)

    def fold(self) -> None:
        """Fold the rows that wait."""
        if self.rows:
            self._fold(torch.cat(self.rows))

    def merge(self, other: "Holding") -> None:
        """Take in another's rows, which stay there."""
        if other.moments is not None:
            if self.moments is None:
                self.moments = other.moments.copy()
            else:
                self.moments.merge_(other.moments)
        if other.rows:
            self.append(torch.cat(other.rows))

    def sketch(self, size: int) -> None:
        """Keep a sketch of at most 2 `size` rows from now on."""
        self.moments = self.current().sketched(size)
        self.rows, self.waiting = [], 0

    def current(self) -> Moments:
        """The moments of all rows; nothing changes."""
        if not self.rows:
            assert self.moments is not None
            return self.moments
        if self.moments is None:
            return Moments.of_rows(torch.cat(self.rows))
        moments = self.moments.copy()
        moments.add_rows_(torch.cat(self.rows))
        return moments

    def reading(self) -> Gram | Moments:
        """What an amount is read from: `current`, or for rows alone what is quicker."""
        return Gram.of_rows(torch.cat(self.rows)) if self.moments is None else self.current()

    def with_rows(
        self,
        rows: Tensor,  # (m, p)
    ) -> "Holding":
        """This and m more rows, as another one; nothing changes."""
        other = Holding(self.dim, self.moments)
        other.rows, other.waiting = [*self.rows, rows], self.waiting + len(rows)
        return other

    @property
    def mean(self) -> Tensor:
        """The mean: (p,) float64."""
        parts = [(len(rows), rows.mean(dim=0, dtype=torch.float64)) for rows in self.rows]
        if self.moments is not None:
            parts.append((self.moments.count, self.moments.mean))  # type: ignore[arg-type]
        return torch.stack([n * mean for n, mean in parts]).sum(dim=0) / self.count

    @property
    def count(self) -> float:
        """Instances, a fraction where some are partly forgotten."""
        return self.waiting + (self.moments.count if self.moments else 0.0)

    @property
    def form(self) -> Form:
        """How the class is stored."""
        if self.moments is None or isinstance(self.moments.scatter, Factor):
            return "rows"
        return "sketch" if isinstance(self.moments.scatter, Sketch) else "scatter"

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""
        return sum(r.nbytes for r in self.rows) + (self.moments.nbytes if self.moments else 0)

    @property
    def _limit(self) -> int:
        """Rows that are folded as soon as they wait."""
        if self.moments is not None and isinstance(self.moments.scatter, Sketch):
            return self.moments.scatter.size
        return max(self.dim, FEWEST_FOLDED)

    def _fold(self, rows: Tensor) -> None:
        if self.moments is None:
            self.moments = Moments.of_rows(rows)
        else:
            self.moments.add_rows_(rows)
        self.rows, self.waiting = [], 0


def sketch_bytes(size: int, dim: int) -> int:
    """Bytes that a sketched class takes at most: 2 `size` rows at 4 bytes, as many waiting at most, two vectors."""
    return 4 * dim * 3 * size + 16 * dim
