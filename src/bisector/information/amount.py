"""The information amount: the volume that a class's embeddings fill, in bits."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple, TypeVar

import torch
from torch import Generator, Tensor

from bisector.checks import require_classes, require_embeddings
from bisector.errors import require, require_choice
from bisector.information.rows import EMBEDDING_SCALES, on_scale, places_by_class, require_finite
from bisector.information.sketched import sketched_amount, spectra
from bisector.information.volume import effective_rank, padded, volume_of_spectrum, volumes_by_cholesky
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import CHOLESKY_SHRINKAGES, SHRINKAGES, linear_intensity, shrink
from bisector.statistics.sketch import Sketch

Key = TypeVar("Key")

_BATCH_BYTES = 2**26
_STEP = 16  # sizes are rounded up to multiples of it, so that many go together


def information_amount(
    x: Tensor,  # (m, p)
    *,
    shrinkage: str = "quadratic-inverse",
    embeddings: str = "raw",
    equal_count: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The information amount of one class, in bits: `1/2 log2 det(I + Sigma)`.

    Sigma is the covariance of the class's embeddings (with 1/m), its eigenvalues improved by `shrinkage`:

    - `"quadratic-inverse"` (the default): whenever classes are small or differ much in size; finite and
      steady whatever m is, m - 1 = p included.
    - `"ledoit-peche"`: where every class has 13 instances or more; the same family, in its original form.
    - `"ledoit-wolf"`, `"oas"`: cheaper (no eigenvalues are taken) and well known, with more bias towards
      a sphere, hence upwards, while m is below some multiples of p.
    - `"none"`: with m many times p, where all agree, or where every class has the same m.
    - `"floor"`, `"ledoit-peche+floor"`: to reproduce the IGAM paper, not to measure; see
      `bisector.statistics.shrinkage.shrink` for what is wrong with them.

    **The number of instances leaks into every one of them**: without shrinkage a small class seems small,
    with it a small class seems large (most of all with the linear ones), so a correlation between amount
    and accuracy may be one between count and accuracy. `equal_count=k` measures on k random instances,
    which takes the count out of a comparison of classes; otherwise show the partial correlation that
    controls for log count beside it.

    A cosine head leaves the length of embeddings arbitrary, and the amount grows with length: measure what
    such a head was trained on with `embeddings="unit"`, and say which was measured.

    Args:
        x: (m, p), the embeddings of one class, any floating dtype, on any device.
        shrinkage: One of `bisector.statistics.shrinkage.SHRINKAGES`.
        embeddings: `"raw"`, as they are, or `"unit"`, every row at length `sqrt(p)`.
        equal_count: Measure on this many instances, at least 2, drawn without replacement.
        generator: Draws them; a CPU generator.

    Returns:
        A 0-d float64 tensor on the CPU; NaN with fewer than 2 instances, or fewer than `equal_count`.

    Raises:
        ArgumentError: if an argument is not as described, or an embedding is not finite.

    Source: Ma, Dai and Chen, ICLR 2025. The volume is that of Ma, Derksen, Hong and Wright 2007, IEEE
    Transactions on Pattern Analysis and Machine Intelligence 29(9).

    >>> information_amount(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [-1.0, -2.0]]), shrinkage="none")
    tensor(1.1610, dtype=torch.float64)
    """
    labels = torch.zeros(x.shape[:1], dtype=torch.long, device="cpu")
    return information_amounts(
        x,
        labels,
        1,
        shrinkage=shrinkage,
        embeddings=embeddings,
        equal_count=equal_count,
        generator=generator,
    ).squeeze(0)


def information_amounts(
    x: Tensor,  # (N, p)
    labels: Tensor,  # (N,)
    num_classes: int,
    *,
    shrinkage: str = "quadratic-inverse",
    embeddings: str = "raw",
    equal_count: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The information amount of every class, in bits: (C,) float64, NaN where it has too few instances.

    The options, and what they are good for, are those of `information_amount`.

    Args:
        x: (N, p), the embeddings of all classes.
        labels: (N,), integers from 0 to num_classes - 1.
        num_classes: C, at least 1.
        shrinkage: One of `bisector.statistics.shrinkage.SHRINKAGES`.
        embeddings: `"raw"` or `"unit"`.
        equal_count: Measure every class on this many instances, at least 2.
        generator: Draws them, class after class; a CPU generator.

    Raises:
        ArgumentError: if an argument is not as described, or an embedding is not finite.

    >>> x = torch.tensor([[0.0, 0.0], [5.0, 0.0], [3.0, 0.0], [-3.0, 0.0]])
    >>> information_amounts(x, torch.tensor([1, 2, 0, 0]), num_classes=3, shrinkage="none")
    tensor([1.6610,    nan,    nan], dtype=torch.float64)
    """
    require(num_classes >= 1, "num_classes", num_classes, "at least 1")
    require_embeddings("x", x)
    require_finite("x", x)
    require_classes("labels", labels, num_classes, rows=len(x))
    require_choice("shrinkage", shrinkage, SHRINKAGES)
    require_choice("embeddings", embeddings, EMBEDDING_SCALES)
    require(equal_count is None or equal_count >= 2, "equal_count", equal_count, "None or at least 2")
    rows = on_scale(x, embeddings)

    def classes() -> Iterator[tuple[int, Moments]]:
        for label, places in places_by_class(labels.cpu()):
            count = len(places)
            if count >= (equal_count or 2):
                drawn = places
                if equal_count is not None:
                    drawn = places[torch.randperm(count, generator=generator, device="cpu")[:equal_count]]
                yield label, Moments.of_rows(rows.index_select(0, drawn))

    amounts = torch.full((num_classes,), torch.nan, dtype=torch.float64, device="cpu")
    for label, amount in class_amounts(classes(), shrinkage, ranks=False):
        amounts[label] = amount.bits
    return amounts


class Amount(NamedTuple):
    """An amount in bits, the shrinkage that was used, the effective rank, and how far off the amount may be."""

    bits: float
    shrinkage: str
    effective_rank: float = torch.nan
    error_bound: float = 0.0
    error_estimate: float = torch.nan


@dataclass(frozen=True, eq=False)
class _Covariance:
    """What the amount of one class asks for."""

    matrix: Tensor  # (k, k) float64, with the non-null eigenvalues
    dim: int
    count: float
    trace: float
    fourth: float
    resolution: float


def class_amounts(
    classes: Iterable[tuple[Key, Moments]], shrinkage: str, *, ranks: bool
) -> Iterator[tuple[Key, Amount]]:
    """Yield the amounts of many classes of at least 2 instances, in no particular order.

    By Cholesky of `I + Sigma` on the smaller side where the shrinkage is none or linear, those of one size in one
    call; from the eigenvalues where it is not. A determinant is never formed, so nothing overflows. Without ranks,
    and with a shrinkage that takes no eigenvalues, none are taken: a Cholesky factor is a tenth of their cost.

    The moments of a class are asked for as they are needed.
    """
    waiting: dict[int, list[tuple[Key, _Covariance]]] = {}
    total = 0
    for key, moments in classes:
        if isinstance(moments.scatter, Sketch):
            bits, used, bound, estimate = sketched_amount(moments, shrinkage)
            rank = float(effective_rank(spectra(moments).likely)) if ranks else torch.nan
            yield key, Amount(bits, used, rank, bound, estimate)
            continue
        count = moments.count
        matrix = moments.scatter.gram() / count
        trace = moments.scatter.trace / count
        covariance = _Covariance(matrix, moments.dim, count, trace, moments.fourth, moments.resolution)
        size = min(moments.dim, -(-max(len(matrix), 1) // _STEP) * _STEP)
        waiting.setdefault(size, []).append((key, covariance))
        total += size**2 * matrix.itemsize
        if total >= _BATCH_BYTES:  # those of the size that waits for most
            most = max(waiting, key=lambda size: len(waiting[size]) * size**2)
            group = waiting.pop(most)
            total -= len(group) * most**2 * matrix.itemsize
            yield from _of_one_size(group, most, shrinkage, ranks)
    for size, group in waiting.items():
        yield from _of_one_size(group, size, shrinkage, ranks)


def _of_one_size(
    group: list[tuple[Key, _Covariance]], size: int, shrinkage: str, ranks: bool
) -> Iterator[tuple[Key, Amount]]:
    # Zeros beside a smaller matrix add null eigenvalues, of which there are more than enough, and nothing to the
    # volume.
    matrices = torch.zeros(len(group), size, size, dtype=torch.float64, device="cpu")
    for place, (_, one) in zip(matrices, group, strict=True):
        place[: len(one.matrix), : len(one.matrix)] = one.matrix
    by_cholesky = shrinkage in CHOLESKY_SHRINKAGES
    values = torch.linalg.eigvalsh(matrices) if ranks or not by_cholesky else None
    amounts = [torch.nan] * len(group)
    if by_cholesky:
        norms = matrices.square().sum(dim=(1, 2)).tolist()
        pairs = [_weight_and_ridge(one, norm, shrinkage) for (_, one), norm in zip(group, norms, strict=True)]
        weights, ridges = torch.tensor(pairs, dtype=torch.float64, device="cpu").T
        matrices *= weights[:, None, None]
        amounts = volumes_by_cholesky(matrices, group[0][1].dim, ridges).tolist()
    for i, (key, one) in enumerate(group):
        bits, used, rank = amounts[i], shrinkage, torch.nan
        eigenvalues = None if values is None else padded(values[i], one.dim)
        if isnan(bits):  # nonlinear, or the factorisation failed
            if eigenvalues is None:
                eigenvalues = padded(torch.linalg.eigvalsh(one.matrix), one.dim)
            shrunk, used = shrink(
                eigenvalues, one.count, shrinkage, fourth_moment=one.fourth, resolution=one.resolution
            )
            bits = float(volume_of_spectrum(shrunk))
        if ranks and eigenvalues is not None:
            rank = float(effective_rank(eigenvalues))
        yield key, Amount(bits, used, rank)


def _weight_and_ridge(one: _Covariance, squared_norm: float, shrinkage: str) -> tuple[float, float]:
    """The a and b of the shrunk covariance `a Sigma + b I`."""
    if shrinkage == "none":
        return 1.0, 0.0
    rho = linear_intensity(
        shrinkage,
        trace=one.trace,
        squared_norm=squared_norm,
        dim=one.dim,
        count=one.count,
        fourth_moment=one.fourth,
    )
    return 1 - rho, rho * one.trace / one.dim
