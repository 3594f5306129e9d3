"""Better eigenvalues of a covariance matrix than the sample's own.

With few rows m for the dimension p, a sample covariance has its large eigenvalues too large and its
small ones too small, so every function of them is biased. Each method here changes the eigenvalues and
keeps the eigenvectors.
"""

import torch
from torch import Tensor

from bisector.errors import require, require_choice
from bisector.statistics.nonlinear import ledoit_peche, quadratic_inverse

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
    - `"ledoit-peche"`: the nonlinear estimator, in closed form (`nonlinear.ledoit_peche`). Below 13 rows
      it does not exist and `"quadratic-inverse"` takes its place. It needs no exception near m - 1 = p:
      the collapse seen there in other implementations is cancellation in the printed formula.
    - `"ledoit-peche+floor"`: the other reading of the poster, first shrunk, then floored.
    - `"quadratic-inverse"`: the robust nonlinear estimator (`nonlinear.quadratic_inverse`), for any m.
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

    Source: `nonlinear` and `linear_intensity` name theirs.

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
