"""The built-in pairwise margin on a block of cosines: where each goes, and how fast."""

import math

import torch
from torch import Tensor

from bisector.functional.cosine import sine
from bisector.functional.margins import PairwiseMargin

# Radians. Nearer than this to an end of the circle the short formulas lose digits; such entries take the long ones.
GUARD = 0.3


def moved_exactly(
    cosine: Tensor,  # (...)
    margin: Tensor,  # (...) radians, signed: positive moves away
) -> tuple[Tensor, Tensor]:
    r"""Return :math:`\psi(\theta + m)` and its derivative by the cosine, for any angle and any margin.

    The derivative is :math:`\pm(\cos m + \cot\theta \sin m)`; see `bisector.functional.cosine.shift_angle`.
    """
    halves = torch.trunc(margin / math.pi)
    m = margin - halves * math.pi
    cos_m, sin_m = torch.cos(m), torch.sin(m)
    sin_t = sine(cosine)
    moved = cosine * cos_m - sin_t * sin_m
    # Where the sine is clamped it has no slope.
    slope = cos_m + torch.where((1 - cosine) * (1 + cosine) > 1e-30, cosine / sin_t, 0) * sin_m
    past_pi = (m > 0) & (cosine < -cos_m)
    below_zero = (m < 0) & (cosine > cos_m)
    turned = past_pi | below_zero
    moved = torch.where(past_pi, -2 - moved, torch.where(below_zero, 2 - moved, moved)) - 2 * halves
    return moved, torch.where(turned, -slope, slope)


def with_sines(
    angles: Tensor,  # (C,) radians
) -> Tensor:
    """Return (5, C): the angles, their sines and cosines, and those of half of them."""
    half = angles / 2
    return torch.stack([angles, angles.sin(), angles.cos(), half.sin(), half.cos()])


class PairwiseBlocks:
    r"""Moves blocks of cosines, classes first, by :math:`\pm m`, with :math:`m = \max(0, r_y - c_j)`.

    In the short formulas, with h = m / 2 and :math:`u = \sin\theta \cos h \pm \cos\theta \sin h`,

    .. math::
        \cos(\theta \pm m) = \cos\theta \mp 2 u \sin h, \qquad
        \frac{\sin(\theta \pm m)}{\sin\theta} = 1 + 2 \sin h\,(\pm \cot\theta \cos h - \sin h)

    where the clamp of the margin is that of the sine of h. They hold while the moved angle stays on the half
    circle; entries that may not (a few, if any) are done again by `moved_exactly`.
    """

    scratch = 4  # buffers of the size of a block

    def __init__(self, margin: PairwiseMargin, classes: slice, like: Tensor) -> None:
        self.relax = margin.direction == "relax"
        on_device = margin.to(like.device, like.dtype)
        self.r = with_sines(on_device.r)
        self.c = with_sines(on_device.c[classes])
        self.short = like.device.type == "cpu"  # elsewhere the look at the extremes would make the host wait

    def move(
        self,
        cosines: Tensor,  # (c, b)
        of_rows: Tensor,  # (5, b), of the rows' targets
        of_classes: Tensor,  # (5, c), of the block's classes
        scratch: Tensor,  # (4, c, b)
    ) -> tuple[Tensor, Tensor] | None:
        """Return where the cosines go and how fast, (c, b) each, in the scratch; None where nothing moves."""
        r, _, _, r_sin_h, r_cos_h = of_rows
        c, _, _, c_sin_h, c_cos_h = of_classes
        if not self.short:
            margins = (r - c[:, None]).clamp_min_(0)
            return moved_exactly(cosines, margins if self.relax else margins.neg_())
        r_low, r_high = (float(v) for v in r.aminmax())
        c_low, c_high = (float(v) for v in c.aminmax())
        largest = r_high - c_low
        if largest <= 0:
            return None
        # Further apart than pi, the sine of h may have come round, so that it says nothing of the clamp.
        if c_high - r_low > math.pi:
            largest = math.pi
        near, far = (0.0, largest) if self.relax else (largest, 0.0)
        highest = math.cos(min(near + GUARD, math.pi))  # the angle must be at least near and a little more,
        lowest = -math.cos(min(far + GUARD, math.pi))  # and at most pi - far and a little less
        low, high = (float(v) for v in cosines.aminmax())
        moved, other, sin_h, slope = scratch
        one, sign = cosines.new_ones(()), 1 if self.relax else -1
        square = torch.addcmul(one, cosines, cosines, value=-1, out=other)
        torch.mul(c_cos_h[:, None], r_sin_h, out=sin_h)
        sin_h.addr_(c_sin_h, r_cos_h, alpha=-1).clamp_min_(0)
        torch.mul(c_cos_h[:, None], r_cos_h, out=slope)
        slope.addr_(c_sin_h, r_sin_h).mul_(torch.rsqrt(square, out=moved))  # cos h / sin theta
        u = square.mul_(slope).addcmul_(cosines, sin_h, value=sign)
        torch.addcmul(cosines, u, sin_h, value=-2 * sign, out=moved)
        torch.addcmul(sin_h, cosines, slope, value=-sign, out=slope)
        torch.addcmul(one, sin_h, slope, value=-2, out=slope)
        if not (lowest <= low and high <= highest):
            self._mend(cosines, r, c, moved, slope, lowest, highest)
        return moved, slope

    def _mend(
        self,
        cosines: Tensor,
        r: Tensor,
        c: Tensor,
        moved: Tensor,
        slope: Tensor,
        lowest: float,
        highest: float,
    ) -> None:
        """Do the entries outside the bounds again: a few, mostly; if many, an eighth at a time."""
        outside = ~((cosines >= lowest) & (cosines <= highest))
        few = int(outside.count_nonzero()) <= cosines.numel() // 32
        step = len(cosines) if few else -(-len(cosines) // 8)
        for start in range(0, len(cosines), step):
            here = slice(start, start + step)
            classes, rows = outside[here].nonzero(as_tuple=True)
            margins = (r[rows] - c[start + classes]).clamp_min_(0)
            exact = moved_exactly(cosines[here][classes, rows], margins if self.relax else margins.neg_())
            moved[here][classes, rows], slope[here][classes, rows] = exact
