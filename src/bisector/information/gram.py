"""Exact amounts of many classes: each by its covariance on the smaller side, those of one size in one call."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from bisector.information.effective_rank import effective_rank
from bisector.information.volume import volume_of_spectrum, volumes_by_cholesky
from bisector.statistics.moments import Moments, centred, contrasts, padded, resolution
from bisector.statistics.scatter import products
from bisector.statistics.shrinkage import CHOLESKY_SHRINKAGES, linear_intensity, shrink

Key = TypeVar("Key")

_BATCH_BYTES = 2**26
_STEP = 16  # sizes are rounded up to multiples of it, so that many go together


class Amount(NamedTuple):
    """An amount in bits, the shrinkage that was used, and the effective rank; NaN where it was not asked for."""

    bits: float
    shrinkage: str
    effective_rank: float


@dataclass(frozen=True, eq=False)
class Gram:
    """What the exact amount of one class asks for.

    Attributes:
        matrix: (k, k) float64, the covariance, or a matrix with its non-null eigenvalues where k < p.
        mean: (p,) float64.
        count: The number of rows; a fraction where some are partly forgotten.
        trace: Of the covariance.
        fourth: `sum_i |x_i - mean|^4`.
        resolution: Eigenvalues below this part of the largest are rounding.
    """

    matrix: Tensor
    mean: Tensor
    count: float
    trace: float
    fourth: float
    resolution: float

    @classmethod
    def of_rows(
        cls,
        rows: Tensor,  # (m, p)
    ) -> "Gram":
        """That of m >= 1 rows as `precise` gives them; up to 2 p of them in float64, as `Moments.of_rows` does.

        >>> Gram.of_rows(torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])).matrix
        tensor([[1.0000]], dtype=torch.float64)
        """
        count, dim = rows.shape
        if count <= 2 * dim:
            rows = rows.double()
        deviations, mean = centred(rows)
        squares = torch.linalg.vector_norm(deviations, dim=1).double().square()
        if count <= dim:
            factor = contrasts(deviations)  # a row fewer: the mean has taken one direction
            matrix = factor @ factor.T
        else:
            matrix = products(deviations)
        return cls(
            matrix=matrix / count,
            mean=mean,
            count=float(count),
            trace=float(squares.sum()) / count,
            fourth=float(squares.square().sum()),
            resolution=resolution(dim, single=rows.dtype == torch.float32),
        )

    @classmethod
    def of_moments(cls, moments: Moments) -> "Gram":
        """That of moments in an exact form."""
        return cls(
            matrix=moments.gram(),
            mean=moments.mean,
            count=moments.count,
            trace=moments.trace,
            fourth=moments.fourth,
            resolution=moments.resolution,
        )

    @property
    def dim(self) -> int:
        """The dimension p."""
        return len(self.mean)

    @cached_property
    def eigenvalues(self) -> Tensor:
        """All p eigenvalues of the covariance, ascending: (p,) float64."""
        return padded(torch.linalg.eigvalsh(self.matrix), self.dim)


def exact_amounts(
    grams: Iterable[tuple[Key, Gram]], shrinkage: str, *, ranks: bool
) -> Iterator[tuple[Key, Amount]]:
    """The amounts of many classes of at least 2 instances, in no particular order.

    By Cholesky of `I + Sigma` where the shrinkage is none or linear; from the eigenvalues where it is not. A
    determinant is never formed, so nothing overflows. Without ranks, and with a shrinkage that takes no
    eigenvalues, none are taken: a Cholesky factor is a tenth of their cost.

    Args:
        grams: of each class, with a key; they are asked for as they are needed.
        shrinkage: One of `SHRINKAGES`.
        ranks: whether effective ranks are wanted.

    >>> gram = Gram.of_rows(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
    >>> [(key, round(amount.bits, 2)) for key, amount in exact_amounts([("a", gram)], "none", ranks=False)]
    [('a', 1.66)]
    """
    waiting: dict[int, list[tuple[Key, Gram]]] = {}
    total = 0
    for key, gram in grams:
        size = min(gram.dim, -(-max(len(gram.matrix), 1) // _STEP) * _STEP)
        waiting.setdefault(size, []).append((key, gram))
        total += size**2 * gram.matrix.itemsize
        if total >= _BATCH_BYTES:  # those of the size that waits for most
            most = max(waiting, key=lambda size: len(waiting[size]) * size**2)
            group = waiting.pop(most)
            total -= len(group) * most**2 * gram.matrix.itemsize
            yield from _of_one_size(group, most, shrinkage, ranks)
    for size, group in waiting.items():
        yield from _of_one_size(group, size, shrinkage, ranks)


def _of_one_size(
    group: list[tuple[Key, Gram]], size: int, shrinkage: str, ranks: bool
) -> Iterator[tuple[Key, Amount]]:
    # Zeros beside a Gram matrix add null eigenvalues, of which there are more than enough, and nothing to the
    # volume.
    matrices = torch.zeros(len(group), size, size, dtype=torch.float64, device="cpu")
    for place, (_, gram) in zip(matrices, group, strict=True):
        place[: len(gram.matrix), : len(gram.matrix)] = gram.matrix
    by_cholesky = shrinkage in CHOLESKY_SHRINKAGES
    values = torch.linalg.eigvalsh(matrices) if ranks or not by_cholesky else None
    amounts = [torch.nan] * len(group)
    if by_cholesky:
        norms = matrices.square().sum(dim=(1, 2)).tolist()
        pairs = [_weight_and_ridge(gram, n, shrinkage) for (_, gram), n in zip(group, norms, strict=True)]
        weights, ridges = torch.tensor(pairs, dtype=torch.float64, device="cpu").T
        matrices *= weights[:, None, None]
        amounts = volumes_by_cholesky(matrices, group[0][1].dim, ridges).tolist()
    for i, (key, gram) in enumerate(group):
        bits, used = amounts[i], shrinkage
        eigenvalues = None if values is None else padded(values[i], gram.dim)
        if isnan(bits):  # nonlinear, or the factorisation failed
            eigenvalues = gram.eigenvalues if eigenvalues is None else eigenvalues
            bits, used = _of_spectrum(gram, eigenvalues, shrinkage)
        rank = float(effective_rank(eigenvalues)) if ranks and eigenvalues is not None else torch.nan
        yield key, Amount(bits, used, rank)


def _weight_and_ridge(gram: Gram, squared_norm: float, shrinkage: str) -> tuple[float, float]:
    """The a and b of the shrunk covariance `a Sigma + b I`."""
    if shrinkage == "none":
        return 1.0, 0.0
    rho = linear_intensity(
        shrinkage,
        trace=gram.trace,
        squared_norm=squared_norm,
        dim=gram.dim,
        count=gram.count,
        fourth_moment=gram.fourth,
    )
    return 1 - rho, rho * gram.trace / gram.dim


def _of_spectrum(gram: Gram, eigenvalues: Tensor, shrinkage: str) -> tuple[float, str]:
    shrunk, used = shrink(
        eigenvalues, gram.count, shrinkage, fourth_moment=gram.fourth, resolution=gram.resolution
    )
    return float(volume_of_spectrum(shrunk)), used
