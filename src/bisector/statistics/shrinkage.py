"""Better eigenvalues of a covariance matrix than the sample's own.

With few rows m for the dimension p, a sample covariance has its large eigenvalues too large and its
small ones too small, so every function of them is biased. Each method here changes the eigenvalues and
keeps the eigenvectors.
"""

from math import log, pi, sqrt

import torch
from torch import Tensor

from bisector.errors import require, require_choice

SHRINKAGES = (
    "none",
    "floor",
    "ledoit-peche",
    "ledoit-peche+floor",
    "quadratic-inverse",
    "ledoit-wolf",
    "oas",
)
LINEAR_SHRINKAGES = ("ledoit-wolf", "oas")
CHOLESKY_SHRINKAGES = ("none", *LINEAR_SHRINKAGES)  # those that take no eigenvalues

_SQRT5 = sqrt(5.0)
# Below this number of rows the kernel of the Ledoit-Péché estimate reaches zero: sqrt(5) n^(-1/3) >= 1.
_FEWEST_ROWS_FOR_KERNEL = 13


def shrink(
    eigenvalues: Tensor,  # (p,)
    count: float,
    method: str,
    *,
    fourth_moment: float | None = None,
    resolution: float | None = None,
) -> tuple[Tensor, str]:
    """Shrink the eigenvalues of one sample covariance matrix.

    - `"none"`: as they are.
    - `"floor"`: `max(l, (1 - sqrt(p/m))^2)`, the poster of the IGAM paper; kept to reproduce it. It is
      not the Ledoit-Péché estimator that the poster names; the floor lacks the factor of the noise
      variance, so it lifts small embeddings by any amount; it tends to 1 instead of 0, so it does not
      converge to the truth as m grows; and it vanishes at m = p, so what is measured is the class size.
    - `"ledoit-peche"`: the nonlinear estimator, in closed form (`ledoit_peche`). Below 13 rows
      it does not exist and `"quadratic-inverse"` takes its place. It needs no exception near m - 1 = p:
      the collapse seen there in other implementations is cancellation in the printed formula.
    - `"ledoit-peche+floor"`: the other reading of the poster, first shrunk, then floored.
    - `"quadratic-inverse"`: the robust nonlinear estimator (`quadratic_inverse`), for any m.
    - `"ledoit-wolf"`, `"oas"`: `(1 - rho) l + rho mean(l)`, with rho from `linear_intensity`.

    The nonlinear methods take, as their authors do, the unbiased covariance (the eigenvalues times
    m / (m - 1)) with n = m - 1 degrees of freedom; the trace that `"quadratic-inverse"` keeps is the
    unbiased one. They work inside the numerical support: eigenvalues below `resolution` of the largest are
    rounding. Those that too few rows force to zero (the rank fills m - 1) are estimated; those beyond are of dead
    or duplicated features, stay as they are, and the dimension is the number of the others.

    Args:
        eigenvalues: (p,), ascending, of the covariance with 1/m.
        count: The number m of rows, at least 2; a fraction where rows are partly forgotten.
        method: One of `SHRINKAGES`.
        fourth_moment: `sum_i |x_i - mean|^4`, which `"ledoit-wolf"` needs.
        resolution: See above; None for `p eps^2`, eps being that of float32: of products in float64 of float32
            embeddings. `Moments.resolution` knows that of its own.

    Returns:
        The eigenvalues, (p,) float64 and in the order of the eigenvectors given, which a nonlinear method
        need not leave ascending; and the name of the method that was used.

    Raises:
        ArgumentError: if an argument is not as described.

    Source: `ledoit_peche`, `quadratic_inverse` and `linear_intensity` name theirs.

    >>> shrink(torch.tensor([0.1, 1.0, 6.0]), count=12, method="ledoit-peche")
    (tensor([0.1644, 1.3243, 6.2567], dtype=torch.float64), 'quadratic-inverse')
    """
    require_choice("shrinkage", method, SHRINKAGES)
    require(count >= 2, "count", count, "at least 2 rows")
    require(
        eigenvalues.ndim == 1 and len(eigenvalues) > 0 and bool((eigenvalues.diff() >= 0).all()),
        "eigenvalues",
        f"{eigenvalues.tolist()[:8]} with shape {tuple(eigenvalues.shape)}",
        "a shape (p >= 1,), ascending",
    )
    eigenvalues = eigenvalues.to(torch.float64).clamp(min=0)
    name, _, floored = method.partition("+")
    if name == "floor":
        return _floor(eigenvalues, count), method
    if name in LINEAR_SHRINKAGES:
        rho = linear_intensity(
            name,
            trace=eigenvalues.sum().item(),
            squared_norm=eigenvalues.square().sum().item(),
            dim=len(eigenvalues),
            count=count,
            fourth_moment=fourth_moment,
        )
        return torch.lerp(eigenvalues, eigenvalues.mean(), rho), method
    if name != "none":
        if count < _FEWEST_ROWS_FOR_KERNEL:
            name = "quadratic-inverse"
        eigenvalues = _shrink_inside_support(eigenvalues, count, name, resolution)
    return (_floor(eigenvalues, count), f"{name}+floor") if floored else (eigenvalues, name)


def linear_intensity(
    method: str,
    *,
    trace: float,
    squared_norm: float,
    dim: int,
    count: float,
    fourth_moment: float | None = None,
) -> float:
    """How far a linear shrinkage moves the covariance S towards `mu I`, `mu = tr(S)/p`: 0 to 1.

    - `"ledoit-wolf"`: `min(1, b / d)`, with `d = |S - mu I|^2 / p` and
      `b = (sum_i |x_i - mean|^4 / m - |S|^2) / (p m)`.
    - `"oas"`: `min(1, (|S|^2/p^2 + mu^2) / ((m + 1) (|S|^2/p^2 - mu^2/p)))`.

    Args:
        method: One of `LINEAR_SHRINKAGES`.
        trace: The trace of S, the covariance with 1/m.
        squared_norm: The squared Frobenius norm of S.
        dim: The dimension p.
        count: The number m of rows.
        fourth_moment: `sum_i |x_i - mean|^4`, for `"ledoit-wolf"`.

    Raises:
        ArgumentError: if the method is not linear, or lacks its fourth moment.

    Source: Ledoit and Wolf 2004, Journal of Multivariate Analysis 88; Chen, Wiesel, Eldar and Hero 2010,
    IEEE Transactions on Signal Processing 58(10), equation 23 without the term 2/p, as in scikit-learn.

    >>> linear_intensity("oas", trace=4.0, squared_norm=10.0, dim=2, count=9)
    1.0
    >>> linear_intensity("oas", trace=4.0, squared_norm=10.0, dim=2, count=99)
    0.13
    """
    require_choice("shrinkage", method, LINEAR_SHRINKAGES)
    mean = trace / dim
    spread = squared_norm / dim - mean**2
    if spread <= 0:
        return 0.0  # S is already mu I
    if method == "oas":
        return min(1.0, (squared_norm / dim + mean**2 * dim) / ((count + 1) * spread))
    require(fourth_moment is not None, "fourth_moment", fourth_moment, "a number for 'ledoit-wolf'")
    assert fourth_moment is not None
    noise = (fourth_moment / count - squared_norm) / (dim * count)
    return min(1.0, max(0.0, noise / spread))


def _floor(eigenvalues: Tensor, count: float) -> Tensor:
    return eigenvalues.clamp(min=(1 - (len(eigenvalues) / count) ** 0.5) ** 2)


def _shrink_inside_support(eigenvalues: Tensor, count: float, name: str, resolution: float | None) -> Tensor:
    dim, largest = len(eigenvalues), eigenvalues[-1]
    if resolution is None:
        resolution = dim * torch.finfo(torch.float32).eps ** 2
    live = eigenvalues[eigenvalues > largest * resolution]
    if len(live) == 0:
        return eigenvalues
    # Forgetting lowers the count and not the rank, which bounds the degrees of freedom from below.
    degrees = max(count - 1, len(live))
    support = dim if degrees - len(live) < 1 else len(live)
    estimate = ledoit_peche if name == "ledoit-peche" else quadratic_inverse
    # In units of the largest, so that no power of an eigenvalue or of its inverse overflows.
    shrunk = estimate(live / largest, support, degrees) * largest * (count / (count - 1))
    return torch.cat([eigenvalues[: dim - support], shrunk])


def ledoit_peche(
    eigenvalues: Tensor,  # (K,)
    dimension: int,
    degrees: float,
) -> Tensor:
    """Shrink by the Ledoit-Péché oracle, its density estimated by a kernel: (dimension,).

    Args:
        eigenvalues: (K,), the non-null ones of the unbiased covariance.
        dimension: p; the other p - K are the nulls that too few observations force.
        degrees: of freedom, n = m - 1.

    Returns:
        The nulls' common value first, then the shrunk eigenvalues in the order given.

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
    """Shrink by quadratic-inverse shrinkage, which keeps the trace; as `ledoit_peche`: (dimension,).

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
