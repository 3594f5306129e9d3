"""The unit sphere: cosines that keep finite gradients, and angles moved by a margin."""

import math

import torch
from torch import Tensor

# Rows shorter than this have no direction.
SHORTEST = 1e-12


def unit(
    rows: Tensor,  # (..., D)
) -> Tensor:
    r"""Return each row divided by its Euclidean norm, :math:`x / |x|`.

    A row of zeros has no direction: it stays zero and passes no gradient, so that its cosine to every class
    is 0. (Dividing by a clamped norm instead multiplies the gradient of such a row by 1e12.)

    Args:
        rows: any number of vectors of length D in the last dimension.

    Returns:
        A tensor of the same shape, in the same dtype.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norm > SHORTEST, norm, math.inf)


def sine(
    cosine: Tensor,  # (...)
) -> Tensor:
    r"""Return :math:`\sqrt{(1 - c)(1 + c)}` for angles in [0, pi], with a finite gradient also at c = ±1.

    The root's argument is clamped to a tiny positive number, not to 0, whose root has an infinite slope. In
    floating point the next cosine below 1 already lies far above the clamp, so no other value is changed.
    """
    return ((1 - cosine) * (1 + cosine)).clamp_min(1e-30).sqrt()


def angle(
    cosine: Tensor,  # (...)
) -> Tensor:
    """Return the angle in [0, pi] radians of a cosine, with a finite gradient everywhere, unlike `acos`."""
    return torch.atan2(sine(cosine), cosine)


def psi(
    phi: Tensor,  # (...) radians
) -> Tensor:
    r"""Continue the cosine so that it decreases over the whole line, not only over [0, pi].

    .. math:: \psi(\varphi) = (-1)^k \cos\varphi - 2k, \qquad k = \lfloor \varphi / \pi \rfloor

    It equals the cosine on [0, pi]; a margin that carries an angle past pi, or below 0, therefore keeps
    punishing, or rewarding, it in the same direction. (Liu et al. 2017, SphereFace, for multiples of the
    angle from above; here for every real angle.)

    >>> psi(torch.tensor([0.0, math.pi / 2, 2 * math.pi, -math.pi / 2])).round(decimals=4)
    tensor([ 1., -0., -3.,  2.])
    """
    k = torch.floor(phi.detach() / math.pi)
    return (1 - 2 * torch.remainder(k, 2)) * torch.cos(phi) - 2 * k


def shift_angle(
    cosine: Tensor,  # (...)
    margin: Tensor | float,  # broadcasts with cosine; radians
) -> Tensor:
    r"""Return :math:`\psi(\theta + m)` of the angle :math:`\theta` whose cosine is given.

    Computed as :math:`\cos\theta\cos m - \sin\theta\sin m`, so no arc cosine is taken, and continued as
    `psi` where :math:`\theta + m` leaves [0, pi]: monotone in the cosine for every margin.

    Args:
        cosine: cosines of angles in [0, pi].
        margin: radians, positive or negative, of any size.

    >>> shift_angle(torch.tensor([0.5, 0.0, -1.0]), math.pi / 2).round(decimals=4)
    tensor([-0.8660, -1.0000, -2.0000])
    """
    m = margin.to(cosine) if isinstance(margin, Tensor) else cosine.new_full((), margin)
    halves = torch.trunc(m / math.pi)  # psi(phi + pi) = psi(phi) - 2
    m = m - halves * math.pi
    cos_m, sin_m = torch.cos(m), torch.sin(m)
    moved = cosine * cos_m - sine(cosine) * sin_m
    past_pi = (m > 0) & (cosine < -cos_m)
    below_zero = (m < 0) & (cosine > cos_m)
    return torch.where(past_pi, -2 - moved, torch.where(below_zero, 2 - moved, moved)) - 2 * halves
