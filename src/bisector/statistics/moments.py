"""The moments of one class: count, mean, scatter, and what the Ledoit-Wolf shrinkage asks besides."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bisector.errors import require
from bisector.statistics.scatter import Centred, Packed
from bisector.statistics.sketch import Sketch

_LARGEST = 1e12  # beyond it and below its inverse, fourth powers leave the range of float32


@dataclass(eq=False)
class Moments:
    """Count, mean, scatter and two small higher moments of a set of rows, on the CPU.

    Merged in any order and from any split of the rows, they are the moments of all the rows together. Methods whose
    name ends in an underscore change the moments in place; all others return new ones, which may share tensors.

    Attributes:
        count: The number of rows, or the sum of their weights.
        mean: (p,) float64.
        scatter: `M2 = sum_i w_i d_i d_i^T`, `d_i = x_i - mean`: by rows, packed, or as an inexact sketch.
        third: (p,) float64, `sum_i w_i |d_i|^2 d_i`. It is what carries `fourth` through a change of the mean.
        fourth: `sum_i w_i |d_i|^4`, which the Ledoit-Wolf shrinkage needs.
        third_error: The length of what a sketch may have made `third` miss.
        fourth_error: What it may have made `fourth` miss.

    >>> x = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [1.0, 3.0, 1.0], [5.0, 1.0, 7.0]])
    >>> parts = Moments.empty(3)
    >>> parts.add_rows_(x[:1])
    >>> parts.merge_(Moments.of_rows(x[1:]))
    >>> parts.count, parts.mean, parts.scatter.trace
    (4.0, tensor([2.0000, 1.0000, 2.5000], dtype=torch.float64), 47.0)
    """

    count: float
    mean: Tensor
    scatter: Centred | Packed | Sketch
    third: Tensor
    fourth: float
    third_error: float = 0.0
    fourth_error: float = 0.0

    @classmethod
    def empty(cls, dim: int) -> "Moments":
        """Those of no rows."""
        zeros = torch.zeros(dim, dtype=torch.float64, device="cpu")
        return cls(0.0, zeros, Packed(dim), zeros, 0.0)

    @classmethod
    def of_rows(
        cls,
        rows: Tensor,  # (m, p)
        weights: Tensor | None = None,  # (m,) float64, above 0
        held: float = 0.0,
    ) -> "Moments":
        """The moments of m >= 1 finite rows as `precise` gives them, by their deviations from the mean.

        Products of float32 rows are taken in float32 about their mean and summed up in float64. They are taken in
        float64 throughout of up to 2 p rows, `held` others included, of rows with weights, and where one direction
        dominates.
        """
        require(rows.ndim == 2 and rows.numel() > 0, "rows", tuple(rows.shape), "a shape (m >= 1, p >= 1)")
        if weights is not None or held + len(rows) <= 2 * rows.shape[1]:
            rows = rows.double()  # their least eigenvalues are small, and shrinkages invert them
        # A mean is rounded, which may be much beside what rows differ by; so what is left of it is taken away too.
        centre = _mean(rows, weights)
        deviations = rows - centre
        rest = _mean(deviations, weights)
        deviations.sub_(rest)
        squares = torch.linalg.vector_norm(deviations, dim=1).double().square()
        weighted = squares if weights is None else weights * squares
        third = (weighted.to(rows.dtype) @ deviations).double()
        roots = None if weights is None else weights.sqrt()
        if roots is not None:
            deviations *= roots[:, None]
        return cls(
            count=float(len(rows)) if weights is None else float(weights.sum()),
            mean=centre.double() + rest.double(),
            scatter=Centred(deviations, float(weighted.sum()), roots),
            third=third,
            fourth=float(weighted @ squares),
        )

    def add_rows_(
        self,
        rows: Tensor,  # (m, p)
        weights: Tensor | None = None,  # (m,)
    ) -> None:
        """Take in m >= 1 finite rows."""
        self.merge_(Moments.of_rows(rows, weights, held=self.count))

    def merge_(self, other: "Moments") -> None:
        """Take in another set of rows.

        `M2 = M2_a + M2_b + (n_a n_b / n) delta delta^T`, with delta the difference of the means.

        Source: Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm.

        Raises:
            ArgumentError: if the two differ in dimension.
        """
        require(other.dim == self.dim, "other", f"dimension {other.dim}", str(self.dim))
        count = self.count + other.count
        between = other.mean - self.mean
        to_self, to_other = between * (other.count / count), between * (-self.count / count)
        mine, theirs = self._about(to_self), other._about(to_other)
        self.scatter = _sum(self.scatter, other.scatter)
        if self.count:
            self.scatter.add_row_(between * (self.count * other.count / count) ** 0.5)
        self.third = mine[0] + theirs[0]
        self.fourth, self.third_error, self.fourth_error = (
            a + b for a, b in zip(mine[1:], theirs[1:], strict=True)
        )
        self.count, self.mean = count, self.mean + to_self

    def scaled(self, weight: float) -> "Moments":
        """The same distribution with `weight` times the evidence, sharing nothing that changes; 1 makes a copy.

        Raises:
            ArgumentError: if `weight` is not above 0.
        """
        require(weight > 0, "weight", weight, "a number above 0")
        assert not isinstance(self.scatter, Centred)
        return replace(
            self,
            count=self.count * weight,
            scatter=self.scatter.scaled(weight),
            third=self.third * weight,
            fourth=self.fourth * weight,
            third_error=self.third_error * weight,
            fourth_error=self.fourth_error * weight,
        )

    def sketched(self, size: int) -> "Moments":
        """The same moments with the scatter as a sketch of at most 2 `size` rows; see `Sketch`."""
        if isinstance(self.scatter, Sketch):
            sketch = self.scatter.scaled(1)
            sketch.resize_(size)
        else:
            sketch = Sketch(self.dim, size)
            sketch.add_rows_(self.scatter.rows())
        return replace(self, scatter=sketch)

    @property
    def dim(self) -> int:
        """The dimension p."""
        return len(self.mean)

    @property
    def resolution(self) -> float:
        """Eigenvalues below this part of the largest are rounding, of float32 embeddings or of their products.

        Sums of products in float32 were off by at most half an `eps` of the largest eigenvalue, for p from 32 to
        512 and 3 p to 40 p rows, so `4 eps` is far from them. Where products are in float64 it is `p eps^2`.
        """
        epsilon = torch.finfo(torch.float32).eps
        return 4 * epsilon if self.scatter.single else self.dim * epsilon**2

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""
        return self.mean.nbytes + self.scatter.nbytes + self.third.nbytes

    def _about(self, shift: Tensor) -> tuple[Tensor, float, float, float]:
        """`third`, `fourth` and their errors about `mean + shift`: of `d - shift`, expanded with `sum d = 0`."""
        length = float(shift.square().sum())
        if self.count == 0 or length == 0:
            return self.third, self.fourth, self.third_error, self.fourth_error
        image, total = self.scatter.image(shift), self.scatter.trace
        third = self.third - 2 * image - (total + self.count * length) * shift
        fourth = float(4 * (shift @ (image - self.third))) + length * (self.count * length + 2 * total)
        off = 0.0
        if isinstance(self.scatter, Sketch):
            off = (self.scatter.missing + self.scatter.rounding) * length**0.5
        wrong = 4 * length**0.5 * (off + self.third_error)
        return third, self.fourth + fourth, self.third_error + 2 * off, self.fourth_error + wrong


def precise(
    rows: Tensor,  # (m, p)
) -> Tensor:
    """The rows on the CPU, as float32 where their fourth powers fit into it, else as float64.

    >>> precise(torch.ones(1, 2, dtype=torch.bfloat16)).dtype, precise(torch.full((1, 2), 1e15)).dtype
    (torch.float32, torch.float64)
    """
    # First to the CPU: some accelerators have no float64 to convert to.
    rows = rows.detach().cpu()
    if rows.dtype == torch.float64 or not rows.numel():
        return rows.to(torch.promote_types(rows.dtype, torch.float32))
    low, high = (float(end) for end in rows.aminmax())
    largest = max(-low, high)
    return rows.double() if largest > _LARGEST or 0 < largest < 1 / _LARGEST else rows.float()


def _mean(rows: Tensor, weights: Tensor | None) -> Tensor:
    return rows.mean(dim=0) if weights is None else weights @ rows / weights.sum()


def _sum(
    mine: Centred | Packed | Sketch,  # may be changed
    theirs: Centred | Packed | Sketch,
) -> Packed | Sketch:
    if isinstance(mine, Centred):
        packed = Packed(mine.deviations.shape[1])
        packed.add_rows_(mine.deviations)
        mine = packed
    if isinstance(theirs, Sketch) and isinstance(mine, Packed):
        mine, theirs = theirs.scaled(1), mine
    if isinstance(mine, Packed) and isinstance(theirs, Packed):
        mine.add_(theirs)
    elif isinstance(mine, Sketch) and isinstance(theirs, Sketch):
        mine.resize_(min(mine.size, theirs.size))
        mine.add_(theirs)
    else:
        mine.add_rows_(theirs.rows())
    return mine
