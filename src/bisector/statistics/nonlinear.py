"""The two nonlinear shrinkage formulas, on the eigenvalues of one sample covariance matrix.

Both take the non-null eigenvalues of the unbiased covariance, the dimension p they stand for (the
remaining p - K are the nulls that too few observations force) and the degrees of freedom n = m - 1.
Both return p values: the nulls' common value first, then the shrunk eigenvalues in the order given.
"""

from math import log, pi, sqrt

import torch
from torch import Tensor

_SQRT5 = sqrt(5.0)


def ledoit_peche(
    eigenvalues: Tensor,  # (K,)
    dimension: int,
    degrees: float,
) -> Tensor:
    """The Ledoit-Péché oracle, its density estimated by a kernel: (dimension,).

    With f the sample spectral density, H its Hilbert transform and c = p/n, an eigenvalue l becomes
    `l / ((pi c l f)^2 + (1 - c - pi c l H)^2)` for p <= n, and `1 / (pi^2 l (f^2 + H^2))` for p > n,
    where the nulls become `1 / (pi (p - n)/n H_0)`.

    The kernel's bandwidth is proportional to each eigenvalue, `n^(-1/3) l`; `sqrt(5) n^(-1/3)` has to
    stay below 1, which takes n >= 12.

    Source: Ledoit and Péché 2011; the analytical form is Ledoit and Wolf 2020, Annals of Statistics
    48(5), equations 4.3, 4.7 to 4.9, C.4, C.5 and C.8.

    >>> ledoit_peche(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64), dimension=3, degrees=3000.0)
    tensor([1.0029, 2.0026, 3.9990], dtype=torch.float64)
    """
    bandwidth: float = degrees ** (-1 / 3)
    widths = bandwidth * eigenvalues
    x = (eigenvalues[:, None] - eigenvalues) / widths
    density = (0.75 / _SQRT5 * (1 - x.square() / 5).clamp(min=0) / widths).mean(dim=1)
    hilbert = (_hilbert_transform_of_kernel(x) / widths).mean(dim=1)
    if dimension <= degrees:
        ratio = dimension / degrees
        real = 1 - ratio - pi * ratio * eigenvalues * hilbert
        return eigenvalues / ((pi * ratio * eigenvalues * density).square() + real.square())
    edge = _SQRT5 * bandwidth
    at_zero = 0.3 / bandwidth**2 + 0.75 / edge * (1 - 1 / edge**2) * log((1 + edge) / (1 - edge))
    null = 1 / ((dimension - degrees) / degrees * at_zero * (1 / eigenvalues).mean())
    nulls = null.expand(dimension - len(eigenvalues))
    return torch.cat([nulls, 1 / (pi**2 * eigenvalues * (density.square() + hilbert.square()))])


def quadratic_inverse(
    eigenvalues: Tensor,  # (K,)
    dimension: int,
    degrees: float,
) -> Tensor:
    """Quadratic-inverse shrinkage: (dimension,), with the trace of the input.

    Smooths the inverse eigenvalues `u = 1/l` instead of the eigenvalues, which keeps every value
    positive and finite whatever p/n is, p = n included.

    Source: Ledoit and Wolf 2022, Quadratic shrinkage for large covariance matrices, Bernoulli 28(3).

    >>> quadratic_inverse(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64), dimension=3, degrees=3000.0)
    tensor([1.0022, 2.0013, 3.9965], dtype=torch.float64)
    """
    ratio = dimension / degrees
    bandwidth: float = (min(ratio, 1 / ratio) ** 2 / dimension) ** 0.35
    inverse = 1 / eigenvalues
    distance = inverse - inverse[:, None]  # u_j - u_i at (i, j)
    power = distance.square() + (bandwidth * inverse).square()
    smoothed = (inverse * distance / power).mean(dim=1)
    amplitude = smoothed.square() + (bandwidth * inverse.square() / power).mean(dim=1).square()
    if dimension <= degrees:
        rest = 1 - ratio
        shrunk = eigenvalues / (rest**2 + 2 * ratio * rest * smoothed + ratio**2 * amplitude)
    else:
        null = 1 / ((ratio - 1) * inverse.mean())
        shrunk = torch.cat([null.expand(dimension - len(eigenvalues)), eigenvalues / amplitude])
    return shrunk * (eigenvalues.sum() / shrunk.sum())


def _hilbert_transform_of_kernel(x: Tensor) -> Tensor:
    """Hilbert transform of the Epanechnikov kernel of unit variance, without loss of digits.

    The printed form is a difference that cancels like `x^2` far from the kernel, where its published
    implementations lose every digit on ill-conditioned spectra; the series there has no cancellation.
    """
    a = x / _SQRT5
    # xlogy makes the logarithm's term vanish at |a| = 1, where its factor does.
    near = -1.5 * a + 0.75 * torch.xlogy(1 - a.square(), ((1 - a) / (1 + a)).abs())
    inverse = 1 / a
    series = torch.zeros_like(a)
    for k in reversed(range(9)):
        series = series * inverse.square() + 1 / ((2 * k + 1) * (2 * k + 3))
    far = -3 * inverse * series
    return torch.where(a.abs() > 10, far, near) / (_SQRT5 * pi)
