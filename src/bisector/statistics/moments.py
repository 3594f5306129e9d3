"""The moments of one class: count, mean, scatter, and what the Ledoit-Wolf shrinkage asks besides."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bisector.errors import require
from bisector.statistics.scatter import Factor, Packed
from bisector.statistics.sketch import Sketch

_LARGEST = 1e12  # beyond it and below its inverse, fourth powers leave the range of float32


@dataclass(eq=False)
class Moments:
    """Count, mean, scatter and two small higher moments of a set of rows, on the CPU.

    The scatter matrix `M2 = sum_i d_i d_i^T`, with `d_i = x_i - mean`, is kept as a factor F (k, p) with `M2
    = F^T F` while k < p, so a rare class of a wide embedding costs what it holds and not p^2; as one half of
    the (p, p) matrix from then on; and, where `sketched` asks for it, as a sketch that is no longer exact.

    Merged in any order and from any split of the rows, they are the moments of all the rows together. Methods whose
    name ends in an underscore change the moments in place; all others return new ones, which may share tensors.

    Attributes:
        count: The number of rows n; a fraction after `scaled`.
        mean: (p,) float64.
        scatter: M2 as a `Factor`, `Packed` or `Sketch`.
        third: (p,) float64, `sum_i |d_i|^2 d_i`. It is what carries `fourth` through a change of the mean.
        fourth: `sum_i |d_i|^4`, which the Ledoit-Wolf shrinkage needs.
        third_error: The length of what a sketch may have made `third` miss.
        fourth_error: What it may have made `fourth` miss.

    >>> x = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [1.0, 3.0, 1.0], [5.0, 1.0, 7.0]])
    >>> whole = Moments.of_rows(x)
    >>> parts = Moments.of_rows(x[:1]).merge(Moments.of_rows(x[1:]))
    >>> parts.count, parts.mean
    (4.0, tensor([2.0000, 1.0000, 2.5000], dtype=torch.float64))
    >>> torch.allclose(parts.covariance(), whole.covariance())
    True
    """

    count: float
    mean: Tensor
    scatter: Factor | Packed | Sketch
    third: Tensor
    fourth: float
    third_error: float = 0.0
    fourth_error: float = 0.0

    @classmethod
    def of_rows(
        cls,
        rows: Tensor,  # (m, p)
    ) -> "Moments":
        """The moments of m >= 1 finite rows of any floating dtype.

        Products of float32 rows (or narrower ones, which are widened) are taken in float32 about their mean
        and summed up in float64; of up to 2 p rows, of float64 rows, where one direction dominates, and of
        rows whose fourth powers float32 cannot hold, they are taken in float64 throughout.
        """
        require(rows.ndim == 2 and rows.numel() > 0, "rows", tuple(rows.shape), "a shape (m >= 1, p >= 1)")
        dim = rows.shape[1]
        zeros = torch.zeros(dim, dtype=torch.float64, device="cpu")
        empty = cls(0.0, zeros, Factor(zeros.new_empty(0, dim)), zeros, 0.0)
        empty.add_rows_(precise(rows))
        return empty

    def add_rows_(
        self,
        rows: Tensor,  # (m, p)
    ) -> None:
        """Take in m >= 1 finite rows, as `precise` gives them, in place."""
        if self.count + len(rows) <= 2 * self.dim:
            rows = rows.double()  # their least eigenvalues are small, and shrinkages invert them
        added, count = len(rows), self.count + len(rows)
        deviations, mean = centred(rows)
        between = mean - self.mean
        shift = between * (added / count)
        third, fourth, third_error, fourth_error = self._about(shift)
        offset = self.mean + shift - mean
        lengths = torch.linalg.vector_norm(deviations, dim=1).double().square()
        lengths += offset.square().sum() - 2 * (deviations @ offset.to(rows.dtype)).double()
        image = (lengths.to(rows.dtype) @ deviations).double()
        self._add_scatter(deviations, between * (self.count * added / count) ** 0.5)
        self.third = third + image - lengths.sum() * offset
        self.fourth = fourth + float(lengths.square().sum())
        self.third_error, self.fourth_error = third_error, fourth_error
        self.count, self.mean = count, self.mean + shift
        self.__dict__.pop("eigenvalues", None)

    def merge_(self, other: "Moments") -> None:
        """Take in another set of rows.

        `M2 = M2_a + M2_b + (n_a n_b / n) delta delta^T`, with delta the difference of the means: a factor grows by
        exactly one row, and turns into the packed matrix when it has p of them.

        Source: Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm.

        Raises:
            ArgumentError: if the two differ in dimension.
        """
        require(other.dim == self.dim, "other", f"dimension {other.dim}", str(self.dim))
        count = self.count + other.count
        between = other.mean - self.mean
        to_self, to_other = between * (other.count / count), between * (-self.count / count)
        mine, theirs = self._about(to_self), other._about(to_other)
        row = (between * (self.count * other.count / count) ** 0.5).unsqueeze(0)
        self.scatter = _sum(self.scatter, other.scatter, row)
        self.third = mine[0] + theirs[0]
        self.fourth, self.third_error, self.fourth_error = (
            a + b for a, b in zip(mine[1:], theirs[1:], strict=True)
        )
        self.count, self.mean = count, self.mean + to_self
        self.__dict__.pop("eigenvalues", None)

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows together; see `merge_`."""
        both = self.copy()
        both.merge_(other)
        return both

    def copy(self) -> "Moments":
        """The same moments, which share nothing with these but what never changes."""
        return replace(self, scatter=self.scatter.copy())

    def scaled(self, weight: float) -> "Moments":
        """The same distribution with `weight` times the evidence, which is how old rows are forgotten.

        Raises:
            ArgumentError: if `weight` is not above 0.
        """
        require(weight > 0, "weight", weight, "a number above 0")
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
            sketch = self.scatter.copy()
            sketch.resize_(size)
        else:
            sketch = Sketch(self.dim, size)
            sketch.add_rows_(self.scatter.rows())
        return replace(self, scatter=sketch)

    def covariance(self) -> Tensor:
        """`(1/n) M2`: (p, p) float64."""
        return self.scatter.full() / self.count

    def gram(self) -> Tensor:
        """The covariance, or where only k < p rows are held the smaller `(1/n) F F^T`: (k, k).

        Both have the same non-null eigenvalues, hence the same trace and the same Frobenius norm.
        """
        return self.scatter.gram() / self.count

    @cached_property
    def eigenvalues(self) -> Tensor:
        """All p eigenvalues of the covariance, ascending: (p,) float64."""
        return padded(torch.linalg.eigvalsh(self.gram()), self.dim)

    @property
    def dim(self) -> int:
        """The dimension p."""
        return self.scatter.dim

    @property
    def resolution(self) -> float:
        """Eigenvalues below this part of the largest are rounding; see `resolution`."""
        exact = isinstance(self.scatter, Factor) or (
            isinstance(self.scatter, Packed) and not self.scatter.single
        )
        return resolution(self.dim, single=not exact)

    @property
    def trace(self) -> float:
        """The trace of the covariance, `(1/n) sum_i |d_i|^2`, exact in every form."""
        return self.scatter.trace / self.count

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""
        return self.mean.nbytes + self.scatter.nbytes + self.third.nbytes

    def _about(self, shift: Tensor) -> tuple[Tensor, float, float, float]:
        """`third`, `fourth` and their errors about `mean + shift`: of `d - shift`, expanded with `sum d = 0`."""
        if self.count == 0:
            return self.third, 0.0, 0.0, 0.0
        image = self.scatter.image(shift)
        total, length = self.scatter.trace, float(shift.square().sum())
        third = self.third - 2 * image - (total + self.count * length) * shift
        fourth = float(4 * (shift @ (image - self.third))) + length * (self.count * length + 2 * total)
        if not isinstance(self.scatter, Sketch):
            return third, self.fourth + fourth, self.third_error, self.fourth_error
        off = (self.scatter.missing + self.scatter.rounding) * length**0.5
        wrong = 4 * length**0.5 * (off + self.third_error)
        return third, self.fourth + fourth, self.third_error + 2 * off, self.fourth_error + wrong

    def _add_scatter(
        self,
        deviations: Tensor,  # (m, p)
        between: Tensor,  # (p,) float64
    ) -> None:
        """Add rows about their own mean, and the outer product of how far that is from the mean of the others."""
        row = between.unsqueeze(0)
        if isinstance(self.scatter, Sketch):
            self.scatter.add_rows_(torch.cat([deviations.double(), row]))
            return
        if isinstance(self.scatter, Factor):
            factor = self.scatter.factor
            if len(factor) + len(deviations) - (self.count == 0) < self.dim:
                rows = [factor, contrasts(deviations.double()), row]
                self.scatter = Factor(torch.cat(rows if self.count else rows[:2]))
                return
            self.scatter = Packed(self.dim)
            self.scatter.add_rows_(factor)
        self.scatter.add_rows_(deviations)
        if self.count:
            self.scatter.add_outer_(between)


def centred(
    rows: Tensor,  # (m, p)
) -> tuple[Tensor, Tensor]:
    """The rows about their mean, in their dtype, and the mean in float64: (m, p) and (p,).

    The mean of many float32 numbers is rounded, which may be much beside what they differ by; so what is left of it
    is taken away too.

    >>> centred(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))[1]
    tensor([2., 0.], dtype=torch.float64)
    """
    centre = rows.mean(dim=0)
    deviations = rows - centre
    rest = deviations.mean(dim=0)
    deviations.sub_(rest)
    return deviations, centre.double() + rest.double()


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


def resolution(dim: int, *, single: bool) -> float:
    """Eigenvalues below this part of the largest are rounding, of float32 embeddings or of their products.

    Sums of products in float32 (`single`) were off by at most half an `eps` of the largest eigenvalue, for p
    from 32 to 512 and 3 p to 40 p rows, so `4 eps` is far from them. Where products are in float64 it is `p eps^2`.
    """
    epsilon = torch.finfo(torch.float32).eps
    return 4 * epsilon if single else dim * epsilon**2


def padded(
    spectrum: Tensor,  # (k,)
    dim: int,
) -> Tensor:
    """Ascending eigenvalues, with zeros for those that are null and without the negative ones of rounding: (p,)."""
    nulls = spectrum.new_zeros(max(0, dim - len(spectrum)))
    return torch.cat([nulls, spectrum[max(0, len(spectrum) - dim) :].clamp(min=0)])


def contrasts(
    deviations: Tensor,  # (m, p)
) -> Tensor:
    """Helmert's contrasts: the m - 1 rows with the scatter of m centred rows, (m - 1, p).

    Row j is the distance of row j + 1 from the mean of those before it, times `sqrt(j / (j + 1))`.
    """
    before = torch.arange(1, len(deviations), dtype=deviations.dtype, device=deviations.device).unsqueeze(1)
    means = deviations.cumsum(dim=0)[:-1] / before
    return (deviations[1:] - means) * (before / (before + 1)).sqrt()


def _sum(
    mine: Factor | Packed | Sketch,  # may be changed
    theirs: Factor | Packed | Sketch,
    row: Tensor,  # (1, p), whose outer product with itself is the third term
) -> Factor | Packed | Sketch:
    if isinstance(theirs, Sketch) and not isinstance(mine, Sketch):
        mine, theirs = theirs.copy(), mine
    if isinstance(mine, Sketch):
        if isinstance(theirs, Sketch):
            mine.resize_(min(mine.size, theirs.size))
            mine.add_(theirs)
            mine.add_rows_(row)
        else:
            mine.add_rows_(torch.cat([theirs.rows(), row]))
        return mine
    if isinstance(mine, Factor) and isinstance(theirs, Factor):
        rows = torch.cat([mine.factor, theirs.factor, row])
        if len(rows) < len(row[0]):
            return Factor(rows)
        packed = Packed(mine.dim)
        packed.add_rows_(rows)
        return packed
    if isinstance(mine, Factor):
        mine, theirs = theirs.copy(), mine
    assert isinstance(mine, Packed)
    if isinstance(theirs, Packed):
        mine.add_(theirs)
        mine.add_outer_(row[0])
    else:
        mine.add_rows_(torch.cat([theirs.rows(), row]))
    return mine
