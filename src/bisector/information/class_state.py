"""What is kept of the embeddings of one class: rows as they came while they are few, then sums, or a sketch."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.statistics.moments import Moments
from bisector.statistics.sketch import Sketch

Form: TypeAlias = Literal["rows", "scatter", "sketch"]
"""How a class is stored: its rows, one half of p x p sums, or a sketch of these."""

FEWEST_FOLDED = 64
"""Rows below which adding them to the sums costs more in calls than in products."""


class ClassState:
    """The moments of the rows of one class that were folded, and the rows that wait for it.

    A class of n instances keeps n rows of p numbers while n < p, as they came; the packed scatter matrix from
    then on, with fewer than p rows that wait to be folded into it together; a sketch where the meter says so.
    (Of narrow embeddings up to 64 rows wait, whatever p is.)

    Args:
        dim: p.
        moments: of the rows folded so far, packed or sketched.

    >>> state = ClassState(dim=2)
    >>> state.append(torch.eye(2)[:1]), state.form, state.count
    (None, 'rows', 1.0)
    >>> state.append(torch.ones(80, 2)), state.form, state.count
    (None, 'scatter', 81.0)
    """

    def __init__(self, dim: int, moments: Moments | None = None) -> None:
        self.dim = dim
        self.moments = moments
        self.rows: list[Tensor] = []
        self.weights: list[float] = []  # of each tensor of rows: below 1 where they are partly forgotten
        self._waiting = 0  # rows
        self._shared = False  # whether another one has these moments too, which then must not change

    def append(
        self,
        rows: Tensor,  # (m, p)
        weight: float = 1.0,
    ) -> None:
        """Take in m >= 1 finite rows, as `precise` gives them, which nobody else changes."""
        self.extend([rows], [weight])

    def extend(self, rows: Sequence[Tensor], weights: Sequence[float]) -> None:
        """Take in several tensors as `append` does each."""
        self.rows += rows
        self.weights += weights
        self._waiting += sum(len(part) for part in rows)
        limit = max(self.dim, FEWEST_FOLDED)
        if self.moments is not None and isinstance(self.moments.scatter, Sketch):
            limit = self.moments.scatter.size
        if self._waiting >= limit:
            self.fold()

    def merge(self, other: "ClassState") -> None:
        """Take in another's rows, which stay there."""
        if other.moments is not None:
            if self.moments is None:
                self.moments = other.moments.scaled(1)
            else:
                self._own().merge_(other.moments)
        self.extend(other.rows, other.weights)

    def fold(self) -> None:
        """Add the rows that wait to the sums, so that none waits."""
        if self.rows:
            self._own().add_rows_(*self.waiting())
            self.rows, self.weights, self._waiting = [], [], 0

    def sketch(self, size: int) -> None:
        """Keep a sketch of at most 2 `size` rows from now on."""
        self.moments, self._shared = self.current().sketched(size), False
        self.rows, self.weights, self._waiting = [], [], 0

    def _own(self) -> Moments:
        """The moments, which nobody else has from now on."""
        if self.moments is None:
            self.moments = Moments.empty(self.dim)
        elif self._shared:
            self.moments = self.moments.scaled(1)
        self._shared = False
        return self.moments

    def copy(self) -> "ClassState":
        """The same as another one. Moments are copied by the one of the two that changes first."""
        other = ClassState(self.dim, self.moments)
        other.rows, other.weights, other._waiting = [*self.rows], [*self.weights], self._waiting
        other._shared = self._shared = self.moments is not None
        return other

    def current(self) -> Moments:
        """The moments of all rows; nothing changes."""
        if self.moments is None:
            return Moments.of_rows(*self.waiting())
        if not self.rows:
            return self.moments
        moments = self.moments.scaled(1)
        moments.add_rows_(*self.waiting())
        return moments

    def with_rows(
        self,
        rows: Tensor,  # (m, p)
    ) -> "ClassState":
        """This and m more rows, as another one; nothing changes."""
        other = ClassState(self.dim, self.moments)
        other.rows, other.weights = [*self.rows, rows], [*self.weights, 1.0]
        return other

    def scaled(self, weight: float) -> "ClassState":
        """The same distribution with `weight` times the evidence, as another one; nothing changes."""
        if self.moments is not None:
            return ClassState(self.dim, self.current().scaled(weight))
        other = ClassState(self.dim)
        for rows, old in zip(self.rows, self.weights, strict=True):
            if weight * old > 0:  # after hundreds of epochs it is not
                other.append(rows, weight * old)
        return other

    def waiting(self) -> tuple[Tensor, Tensor | None]:
        """The rows that wait, at least one, and their weights; None where each is 1."""
        rows = torch.cat(self.rows) if len(self.rows) > 1 else self.rows[0]
        if all(weight == 1 for weight in self.weights):
            return rows, None
        weights = torch.tensor(self.weights, dtype=torch.float64, device="cpu")
        sizes = torch.tensor([len(part) for part in self.rows], device="cpu")
        return rows, weights.repeat_interleave(sizes)

    @property
    def mean(self) -> Tensor:
        """The mean: (p,) float64."""
        if not self.rows:
            assert self.moments is not None
            return self.moments.mean
        total = torch.zeros(self.dim, dtype=torch.float64, device="cpu")
        if self.moments is not None:
            total += self.moments.count * self.moments.mean
        for rows, weight in zip(self.rows, self.weights, strict=True):
            total += weight * len(rows) * rows.mean(dim=0, dtype=torch.float64)
        return total / self.count

    @property
    def count(self) -> float:
        """Instances, a fraction where some are partly forgotten."""
        waiting = sum(weight * len(rows) for rows, weight in zip(self.rows, self.weights, strict=True))
        return waiting + (self.moments.count if self.moments else 0.0)

    @property
    def form(self) -> Form:
        """How the class is stored."""
        if self.moments is None:
            return "rows"
        return "sketch" if isinstance(self.moments.scatter, Sketch) else "scatter"

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""
        return sum(rows.nbytes for rows in self.rows) + (self.moments.nbytes if self.moments else 0)


def sketch_bytes(size: int, dim: int) -> int:
    """Bytes that a sketched class takes at most: 2 `size` rows at 4 bytes, as many waiting at most, two vectors."""
    return 4 * dim * 3 * size + 16 * dim
