"""CountGuided: IGAM's margins from the instance counts alone."""

from typing import Literal, Unpack

import torch

from bisector.functional.margins import Direction, Margin, PairwiseMargin
from bisector.guides.amount import others
from bisector.guides.pairwise import guide_of, pairwise_guide
from bisector.heads._base import CosineHead, CosineOptions


class CountGuided(CosineHead):
    r"""Pairwise angular margins guided by how rare a class is: the control that measures nothing.

    .. math::
        z_y = s \cos\theta_y, \qquad z_j = s\,\psi(\theta_j \pm m_{yj}), \qquad
        m_{ij} = \max\bigl(0, \tfrac{\mathrm{gain}}{\pi} \log \tfrac{n_j}{n_i}\bigr)

    Information amounts hang together with the counts. What IGAM gains over this head, and not over no margin at
    all, is what the information is worth.

    Args:
        in_features: D.
        num_classes: C.
        gain: multiplies the guide; at most pi / 2 comes of it.
        max_margin: radians; instead of the gain, stretches the guide so that this is the largest margin.
        direction: "press" or "relax", see `PairwiseMargin`; rarer classes are the favoured ones.
        scale: s, or "auto".
        options: those of `CosineHead` and `Head`; class_counts is needed. A class without instances counts as
            average.

    Raises:
        ArgumentError: class_counts are missing, or an option is out of its range.

    >>> head = CountGuided(8, 3, class_counts=[100, 10, 1], max_margin=0.4)
    >>> head.guide.matrix().round(decimals=2)
    tensor([[0.0000, 0.0000, 0.0000],
            [0.2000, 0.0000, 0.0000],
            [0.4000, 0.2000, 0.0000]])
    """

    label = "Count-guided"
    summary = "margins for pairs of classes, guided by their training counts alone"
    needs_counts = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        gain: float | None = None,
        max_margin: float | None = None,
        direction: Direction = "press",
        scale: float | Literal["auto"] = 30.0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, **options)
        self.gain = gain
        self.max_margin = 0.5 if gain is None and max_margin is None else max_margin
        self.direction: Direction = direction
        # An illegal option is told by the function that checks.
        pairwise_guide(
            torch.ones(2, device="cpu"), gain=gain, max_margin=self.max_margin, direction=direction
        )

    @property
    def guide(self) -> PairwiseMargin:
        """The margins, where the counts are."""
        assert self.class_counts is not None  # the constructor demands them
        counts = others(self.class_counts, self.background)
        rarity = torch.where(counts > 0, 1 / counts, 0)
        gain = 1.0 if self.gain is None else self.gain
        guide = guide_of(rarity, gain=gain, max_margin=self.max_margin, direction=self.direction)
        return guide.with_bystander(self.background)

    def margin(self) -> Margin:
        """Return the angles of the competitors."""
        return Margin(pairwise=self.guide, custom=self.custom_margin)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        size = f"max_margin={self.max_margin:g}" if self.max_margin is not None else f"gain={self.gain:g}"
        return f"{super().extra_repr()}, {size}, direction={self.direction!r}"
