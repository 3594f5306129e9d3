r"""What a sketch says of an amount, and what it may miss.

A sketch knows the covariance as :math:`\Sigma = A + R`, its own part A, and of the rest R the bounds
:math:`-\rho I \preceq R \preceq (\delta + \rho) I` and the trace. With R shifted by rho, so that it is
positive and at most :math:`\delta + 2\rho`, and its eigenvalues sought that make :math:`\det(I + A + R)`
extreme, Fiedler's inequalities put them in line with those of A: the smallest determinant has the largest of
R beside the largest of A, the largest determinant the other way round. What is left is to fill a known sum
into boxes: from the top, or level from the bottom.

Source: Fiedler 1971, Bounds for the determinant of the sum of Hermitian matrices, Proceedings of the American
Mathematical Society 30(1).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bisector.information.volume import padded, volume_of_spectrum
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import CHOLESKY_SHRINKAGES, linear_intensity, shrink
from bisector.statistics.sketch import Sketch

_PRODUCTS = 2.0**-21
_ESTIMATE = 1.5


class Spectra(NamedTuple):
    """Eigenvalues (p,) that a sketched covariance may have: between the extremes of its volume, and likely ones."""

    low: Tensor
    likely: Tensor
    high: Tensor


class SketchedAmount(NamedTuple):
    """An amount in bits, the shrinkage that was used, and its error in bits: a bound, or an estimate, else NaN."""

    amount: float
    shrinkage: str
    bound: float
    estimate: float


def spectra(moments: Moments) -> Spectra:
    """The spectra that bound the volume of a sketched covariance, and a likely one.

    Each time a sketch shrinks, it takes the same from all directions that it keeps. If these are the same ones each
    time, that is what they are missing; the likely spectrum gives it back to them, and spreads the rest of
    the trace over the others. Of 300 random classes its volume was off by 0.0 % in the median and 2.6 % in
    the ninth decile, where spreading everything evenly was off by 2.2 and 13.6 %.

    >>> rows = torch.tensor([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    >>> found = spectra(Moments.of_rows(rows).sketched(1))
    >>> [s.round(decimals=3).abs().tolist() for s in found]
    [[0.0, 0.5, 4.5], [0.25, 0.25, 4.5], [0.5, 0.5, 4.0]]
    """
    sketch = moments.scatter
    assert isinstance(sketch, Sketch)
    dim, count, rounding = moments.dim, moments.count, sketch.rounding / moments.count
    held = padded(torch.linalg.eigvalsh(sketch.gram() / count), dim)
    gone = max(0.0, (sketch.trace - float(held.sum()) * count) / count)
    likely = held + _to_the_kept(gone, sketch.missing / count, min(len(sketch.sketch), dim), dim)
    # With R shifted by its rounding, so that it is not negative.
    base, missing, most = held - rounding, gone + dim * rounding, sketch.missing / count + 2 * rounding
    if (
        rounding > 0.25
    ):  # of so large embeddings that it may reach 1: Weyl's inequalities, which need no trace
        return Spectra(base.clamp(min=0), likely, held + most)
    return Spectra(base + _from_the_top(missing, most, dim), likely, base + _level(base, missing, most))


def sketched_amount(moments: Moments, shrinkage: str) -> SketchedAmount:
    """The information amount of a sketched class, by the likely spectrum.

    Without shrinkage and with the linear ones the error is a bound: the volume rises with the intensity of a linear
    shrinkage, since the trace is known, so that the lower bound goes with the least intensity and the least
    spectrum. With the nonlinear ones it is an estimate: one and a half times what the amounts of the three
    spectra are apart, or what they are without shrinkage, if that is more. Of 300 random classes nine in ten
    were within it; but these shrinkages look at how the small eigenvalues differ, which a sketch forgets first.
    """
    found = spectra(moments)
    plain = [float(volume_of_spectrum(s)) for s in found]
    if shrinkage in CHOLESKY_SHRINKAGES:
        low, amount, high = plain if shrinkage == "none" else _linear(moments, shrinkage, found)
        # A part of the covariance, such as the rounding of float32 products, is no larger a part of the volume.
        bound = max(high - amount, amount - low) + _PRODUCTS * high
        return SketchedAmount(amount, shrinkage, bound, torch.nan)
    amounts, used = [], shrinkage
    for spectrum in found:
        ascending = spectrum.clamp(min=0).sort().values
        shrunk, used = shrink(ascending, moments.count, shrinkage, resolution=moments.resolution)
        amounts.append(float(volume_of_spectrum(shrunk)))
    apart = max(max(amounts) - min(amounts), plain[1] - plain[0], plain[2] - plain[1])
    return SketchedAmount(amounts[1], used, torch.nan, _ESTIMATE * apart)


def _linear(moments: Moments, shrinkage: str, found: Spectra) -> tuple[float, float, float]:
    """Lower bound, amount and upper bound with a linear shrinkage."""
    trace, dim = moments.scatter.trace / moments.count, moments.dim
    # The squared norm is largest with R in line with A, and smallest with it spread from the bottom.
    extremes = [float(found.low.square().sum()), float(found.high.square().sum())]
    norms = {"most": max(extremes), "least": min(extremes), "likely": float(found.likely.square().sum())}

    def intensity(norm: str, off: float) -> float:
        return linear_intensity(
            shrinkage,
            trace=trace,
            squared_norm=max(norms[norm], trace**2 / dim),
            dim=dim,
            count=moments.count,
            fourth_moment=max(0.0, moments.fourth + off),
        )

    def amount(spectrum: Tensor, rho: float) -> float:
        return float(volume_of_spectrum((1 - rho) * spectrum + rho * trace / dim))

    return (
        amount(found.low, intensity("most", -moments.fourth_error)),
        amount(found.likely, intensity("likely", 0.0)),
        amount(found.high, intensity("least", moments.fourth_error)),
    )


def _from_the_top(total: float, most: float, dim: int) -> Tensor:
    """`total` in boxes of at most `most`, the last box first: (dim,)."""
    filled = torch.zeros(dim, dtype=torch.float64, device="cpu")
    whole = min(dim, int(total // most)) if most > 0 else 0
    filled[dim - whole :] = most
    if whole < dim:
        filled[dim - whole - 1] = min(most, total - whole * most)
    return filled


def _to_the_kept(total: float, most: float, kept: int, dim: int) -> Tensor:
    """`total` in equal parts of at most `most` for the last `kept` boxes, the rest for the others: (dim,)."""
    share = min(most, total / kept) if kept else 0.0
    filled = torch.full((dim,), share, dtype=torch.float64, device="cpu")
    if kept < dim:
        filled[: dim - kept] = min(most, max(0.0, total - kept * share) / (dim - kept))
    return filled


def _level(
    base: Tensor,  # (p,), ascending
    total: float,
    most: float,
) -> Tensor:
    """`total` filled in so that the lowest are as level as boxes of at most `most` allow: (p,)."""
    # What is filled in grows with the level in straight lines, which bend where a box begins or is full.
    levels = torch.cat([base, base + most]).sort().values
    filled = _below(base, levels) - _below(base, levels - most)
    after = min(int(torch.searchsorted(filled, total)), len(levels) - 1)
    level, volume = float(levels[after]), float(filled[after])
    if after and volume > total:
        below, less = float(levels[after - 1]), float(filled[after - 1])
        level = below + (level - below) * (total - less) / (volume - less)
    return (level - base).clamp(0, most)


def _below(base: Tensor, levels: Tensor) -> Tensor:
    """`sum_i max(0, w - base_i)` for each level w, of an ascending base."""
    places = torch.searchsorted(base, levels)
    sums = torch.cat([base.new_zeros(1), base.cumsum(0)])
    return places * levels - sums[places]
