"""The information amount: the volume that a class's embeddings fill, in bits."""

from math import isnan

import torch
from torch import Generator, Tensor

from bisector.checks import require_classes, require_embeddings
from bisector.errors import require, require_choice
from bisector.information.rows import (
    EMBEDDING_SCALES,
    on_scale,
    require_finite,
    rows_by_class,
)
from bisector.information.volume import volume_of_spectrum, volumes_by_cholesky
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import CHOLESKY_SHRINKAGES, SHRINKAGES, linear_intensity, shrink


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
    fewest = equal_count or 2
    amounts = torch.full((num_classes,), torch.nan, dtype=torch.float64, device="cpu")
    for label, rows in rows_by_class(on_scale(x, embeddings), labels.cpu()).items():
        if len(rows) >= fewest:
            drawn = rows if equal_count is None else _draw(rows, equal_count, generator)
            amounts[label] = amount_of_moments(Moments.of_rows(drawn), shrinkage)[0]
    return amounts


def amount_of_moments(moments: Moments, shrinkage: str) -> tuple[float, str]:
    """The information amount that a class's moments hold, in bits, and the shrinkage that was used.

    By Cholesky of `I + Sigma` on the smaller side, instances or dimensions, where the shrinkage is none
    or linear; from the eigenvalues where it is not. A determinant is never formed, so nothing overflows.

    Args:
        moments: Of at least 2 instances, in an exact form.
        shrinkage: One of `bisector.statistics.shrinkage.SHRINKAGES`.

    Raises:
        ArgumentError: if `shrinkage` is not legal, or there are fewer than 2 instances.

    >>> amount_of_moments(Moments.of_rows(torch.tensor([[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0]])), "oas")
    (3.99..., 'oas')
    """
    require_choice("shrinkage", shrinkage, SHRINKAGES)
    require(moments.count >= 2, "moments", f"{moments.count} instances", "at least 2")
    if shrinkage not in CHOLESKY_SHRINKAGES:
        return amount_of_spectrum(moments, moments.eigenvalues, shrinkage)
    weight, ridge = weight_and_ridge(moments, moments.gram(), shrinkage)
    gram = (moments.gram() * weight).unsqueeze(0)
    amount = volumes_by_cholesky(gram, moments.dim, gram.new_tensor([ridge])).item()
    if isnan(amount):
        return amount_of_spectrum(moments, moments.eigenvalues, shrinkage)
    return amount, shrinkage


def weight_and_ridge(moments: Moments, gram: Tensor, shrinkage: str) -> tuple[float, float]:
    """The a and b of a shrunk covariance `a Sigma + b I` without eigenvalues: one of `CHOLESKY_SHRINKAGES`."""
    if shrinkage == "none":
        return 1.0, 0.0
    rho = linear_intensity(
        shrinkage,
        trace=moments.trace,
        squared_norm=gram.square().sum().item(),
        dim=moments.dim,
        count=moments.count,
        fourth_moment=moments.fourth,
    )
    return 1 - rho, rho * moments.trace / moments.dim


def amount_of_spectrum(
    moments: Moments,
    eigenvalues: Tensor,  # (p,), ascending
    shrinkage: str,
) -> tuple[float, str]:
    """The amount of moments whose eigenvalues are known, and the shrinkage that was used."""
    shrunk, used = shrink(
        eigenvalues,
        moments.count,
        shrinkage,
        fourth_moment=moments.fourth,
        resolution=moments.resolution,
    )
    return volume_of_spectrum(shrunk).item(), used


def _draw(rows: Tensor, count: int, generator: Generator | None) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:count]]
