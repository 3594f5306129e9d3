"""The moments of one class, in the cheapest form that is still exact."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bisector.errors import require


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean, scatter and two small higher moments of a set of rows; float64, on the CPU.

    The scatter matrix `M2 = sum_i d_i d_i^T`, with `d_i = x_i - mean`, is kept as a factor F (k, p) with
    `M2 = F^T F` while k < p, and as the full (p, p) matrix from then on. A set of n rows costs n - 1
    rows of factor, so a rare class of a wide embedding costs what it holds and not p^2.

    Moments are values: every operation returns new ones. Merged in any order and from any split of the
    rows, they are the moments of all the rows together.

    Attributes:
        count: The number of rows n; a fraction after `scaled`.
        mean: (p,).
        scatter: (k, p), the factor F, where k < p; else (p, p), the matrix M2.
        third: (p,), `sum_i |d_i|^2 d_i`. It is what carries `fourth` through a change of the mean.
        fourth: `sum_i |d_i|^4`, which the Ledoit-Wolf shrinkage needs.

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
    scatter: Tensor
    third: Tensor
    fourth: float

    @classmethod
    def of_rows(
        cls,
        rows: Tensor,  # (m, p)
    ) -> "Moments":
        """The moments of m >= 1 finite rows of any floating dtype, accumulated in float64."""
        require(rows.ndim == 2 and rows.numel() > 0, "rows", tuple(rows.shape), "a shape (m >= 1, p >= 1)")
        # First to the CPU: some accelerators have no float64 to convert to.
        rows = rows.detach().cpu().to(torch.float64)
        mean = rows.mean(dim=0)
        deviations = rows - mean
        squared = deviations.square().sum(dim=1)
        return cls(
            count=float(len(rows)),
            mean=mean,
            scatter=_contrasts(deviations) if len(rows) <= rows.shape[1] else deviations.T @ deviations,
            third=squared @ deviations,
            fourth=squared.square().sum().item(),
        )

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows together.

        `M2 = M2_a + M2_b + (n_a n_b / n) delta delta^T`, with delta the difference of the means: a factor
        grows by exactly one row, and turns into the full matrix when it has p of them.

        Source: Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm.

        Raises:
            ArgumentError: if the two differ in dimension.
        """
        require(other.mean.shape == self.mean.shape, "other", f"dimension {other.dim}", str(self.dim))
        count = self.count + other.count
        between = other.mean - self.mean
        to_self, to_other = between * (other.count / count), between * (-self.count / count)
        parts = [self._about(to_self), other._about(to_other)]
        return Moments(
            count=count,
            mean=self.mean + to_self,
            scatter=_sum_of_scatters(
                self.scatter, other.scatter, between * (self.count * other.count / count) ** 0.5
            ),
            third=parts[0][0] + parts[1][0],
            fourth=parts[0][1] + parts[1][1],
        )

    def scaled(self, weight: float) -> "Moments":
        """The same distribution with `weight` times the evidence, which is how old rows are forgotten.

        Raises:
            ArgumentError: if `weight` is not above 0.
        """
        require(weight > 0, "weight", weight, "a number above 0")
        return replace(
            self,
            count=self.count * weight,
            scatter=self.scatter * (weight if self.is_full else weight**0.5),
            third=self.third * weight,
            fourth=self.fourth * weight,
        )

    def full(self) -> "Moments":
        """The same moments with the scatter as the full (p, p) matrix."""
        return self if self.is_full else replace(self, scatter=self.scatter.T @ self.scatter)

    def covariance(self) -> Tensor:
        """`(1/n) M2`: (p, p)."""
        return self.full().scatter / self.count

    def gram(self) -> Tensor:
        """The covariance, or where only a factor is held the smaller `(1/n) F F^T`: (k, k).

        Both have the same non-null eigenvalues, hence the same trace and the same Frobenius norm.
        """
        return (self.scatter if self.is_full else self.scatter @ self.scatter.T) / self.count

    @cached_property
    def eigenvalues(self) -> Tensor:
        """All p eigenvalues of the covariance, ascending: (p,)."""
        spectrum = torch.linalg.eigvalsh(self.gram()).clamp(min=0)
        return torch.cat([spectrum.new_zeros(self.dim - len(spectrum)), spectrum])

    @property
    def dim(self) -> int:
        """The dimension p."""
        return self.mean.shape[0]

    @property
    def is_full(self) -> bool:
        """Whether the scatter is the full matrix; no factor has as many as p rows."""
        return self.scatter.shape == (self.dim, self.dim)

    @property
    def trace(self) -> float:
        """The trace of the covariance, `(1/n) sum_i |d_i|^2`."""
        total = self.scatter.trace() if self.is_full else torch.linalg.vector_norm(self.scatter).square()
        return float(total) / self.count

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""
        return self.mean.nbytes + self.scatter.nbytes + self.third.nbytes

    def _about(self, shift: Tensor) -> tuple[Tensor, float]:
        """`third` and `fourth` about `mean + shift`: of `d' = d - shift`, expanded with `sum d = 0`."""
        image = self.scatter @ shift
        if not self.is_full:
            image = self.scatter.T @ image
        total, length = self.trace * self.count, shift.square().sum()
        third = self.third - 2 * image - (total + self.count * length) * shift
        fourth = 4 * (shift @ (image - self.third)) + length * (self.count * length + 2 * total)
        return third, self.fourth + fourth.item()


def _contrasts(
    deviations: Tensor,  # (m, p)
) -> Tensor:
    """Helmert's contrasts: the m - 1 rows with the scatter of m centred rows, (m - 1, p).

    Row j is the distance of row j + 1 from the mean of those before it, times `sqrt(j / (j + 1))`.
    """
    before = torch.arange(1, len(deviations), dtype=deviations.dtype, device=deviations.device).unsqueeze(1)
    means = deviations.cumsum(dim=0)[:-1] / before
    return (deviations[1:] - means) * (before / (before + 1)).sqrt()


def _sum_of_scatters(
    a: Tensor,  # (k, p) or (p, p)
    b: Tensor,  # (k', p) or (p, p)
    row: Tensor,  # (p,), whose outer product with itself is the third term
) -> Tensor:
    dim = len(row)
    rows = torch.cat([*(s for s in (a, b) if len(s) < dim), row.unsqueeze(0)])
    full = [s for s in (a, b) if len(s) == dim]
    if not full and len(rows) < dim:
        return rows
    return sum(full, start=rows.T @ rows)
