"""The built-in pairwise margin on a block of cosines: where each goes, and how fast."""

import math
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class AngleVectors:
    """What a pairwise margin has for each class, with the sines and cosines ready: (C,) each."""

    values: Tensor
    sines: Tensor
    cosines: Tensor

    @classmethod
    def of(cls, values: Tensor) -> "AngleVectors":
        """Take the sines and cosines once."""
        return cls(values, values.sin(), values.cos())

    def __getitem__(self, index: slice | Tensor) -> "AngleVectors":
        return AngleVectors(self.values[index], self.sines[index], self.cosines[index])


class PairwiseBlocks:
    r"""Moves blocks of cosines, classes first, by :math:`\pm\max(0, r_y - c_j)`.

    In the short formulas a relaxed competitor goes to :math:`\min(\cos\theta, \cos(\theta + r - c))`, a pressed one
    to :math:`\max(\cos\theta, \cos(\theta - r + c))`: the extremum stands for the clamp of the margin at 0. Both
    have the slope :math:`\sin(\theta \pm m) / \sin\theta`, a ratio of roots. They hold while the moved angle stays
    on the half circle; entries that may not (a few, if any) are done again by `moved_exactly`.
    """

    def __init__(self, margin: PairwiseMargin, classes: slice, like: Tensor) -> None:
        self.relax = margin.direction == "relax"
        on_device = margin.to(like.device, like.dtype)
        self.r = AngleVectors.of(on_device.r)
        self.c = AngleVectors.of(on_device.c[classes])
        self.short = like.device.type == "cpu"  # elsewhere the look at the extremes would make the host wait

    def move(
        self,
        cosines: Tensor,  # (c, b)
        r: AngleVectors,  # (b,) each, of the rows' targets
        c: AngleVectors,  # (c,) each, of the block's classes
        scratch: Tensor,  # (4, c, b)
    ) -> tuple[Tensor, Tensor] | None:
        """Return where the cosines go and how fast, (c, b) each, in the scratch; None where nothing moves."""
        if not self.short:
            margins = (r.values - c.values[:, None]).clamp_min_(0)
            return moved_exactly(cosines, margins if self.relax else margins.neg_())
        r_low, r_high = (float(v) for v in r.values.aminmax())
        c_low, c_high = (float(v) for v in c.values.aminmax())
        margin, against = (
            r_high - c_low,
            c_high - r_low,
        )  # the largest margin, and the largest that is clamped
        if margin <= 0:
            return None
        squares, roots, turned, other = scratch
        one = cosines.new_ones(())
        torch.addcmul(one, cosines, cosines, value=-1, out=squares)
        torch.rsqrt(squares, out=roots).mul_(squares)  # sin theta; a root alone takes longer
        # cos(theta +- delta) = cos theta cos delta -+ sin theta sin delta, with delta = r - c.
        torch.mul(c.cosines[:, None], r.cosines, out=turned).addr_(c.sines, r.sines).mul_(cosines)
        torch.mul(c.cosines[:, None], r.sines, out=other).addr_(c.sines, r.cosines, alpha=-1)
        turned.addcmul_(roots, other, value=-1 if self.relax else 1)
        choose = torch.minimum if self.relax else torch.maximum
        moved = choose(turned, cosines, out=turned)
        slope = torch.addcmul(one, moved, moved, value=-1, out=other)
        slope.mul_(torch.rsqrt(squares.mul_(slope), out=roots))
        near, far = (against / 2, margin + GUARD) if self.relax else (margin + GUARD, against / 2)
        highest = math.cos(min(max(near, GUARD), math.pi))  # the angle must be at least near,
        lowest = -math.cos(min(max(far, GUARD), math.pi))  # and at most pi - far
        low, high = (float(v) for v in cosines.aminmax())
        if not (lowest <= low and high <= highest):
            self._mend(cosines, r, c, moved, slope, lowest, highest)
        return moved, slope

    def _mend(
        self,
        cosines: Tensor,
        r: AngleVectors,
        c: AngleVectors,
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
            margins = (r.values[rows] - c.values[start + classes]).clamp_min_(0)
            exact = moved_exactly(cosines[here][classes, rows], margins if self.relax else margins.neg_())
            moved[here][classes, rows], slope[here][classes, rows] = exact
