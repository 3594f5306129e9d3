"""CombinedMargin: the three margins of the true class in one formula."""

from typing import Literal, Unpack

from bisector.errors import require_number
from bisector.functional.margins import Margin, combined
from bisector.heads._base import CosineOptions
from bisector.heads._warm_up import WarmUpHead


class CombinedMargin(WarmUpHead):
    r"""The margins of SphereFace, ArcFace and CosFace together.

    .. math:: z_y = s\,(\psi(m_1 \theta_y + m_2) - m_3), \qquad z_j = s \cos\theta_j

    (1, m, 0) is ArcFace, (1, 0, m) is AM-softmax, (m, 0, 0) with m > 1 is SphereFace, also for an m that is no
    integer. :math:`\psi` continues the cosine monotonically.

    Args:
        in_features: D.
        num_classes: C.
        m1: a factor of the angle, above 0.
        m2: radians.
        m3: cosine units.
        scale: s, or "auto".
        warmup: the steps in which the margins grow from (1, 0, 0), counted by `observe`; 0 for none.
        options: those of `CosineHead` and `Head`.

    Source: Deng et al., CVPR 2019.

    >>> import torch
    >>> head = CombinedMargin(8, 3, m1=1.35, m2=0.1, m3=0.05)
    >>> head(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).dim()
    0
    """

    label = "Combined margin"
    summary = "the margins of SphereFace, ArcFace and AM-softmax together"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m1: float = 1.0,
        m2: float = 0.0,
        m3: float = 0.0,
        scale: float | Literal["auto"] = 64.0,
        warmup: int = 0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, warmup=warmup, **options)
        self.margins = (require_number("m1", m1, above=0), require_number("m2", m2), require_number("m3", m3))

    def margin(self) -> Margin:
        """Return the rule of the true class."""
        m1, m2, m3 = self.margins
        if self.steps is not None:
            grown = self.grown()
            return Margin(
                target=combined(1 + (m1 - 1) * grown, m2 * grown, m3 * grown), custom=self.custom_margin
            )
        return Margin(target=combined(m1, m2, m3), custom=self.custom_margin)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return "{}, m1={:g}, m2={:g}, m3={:g}".format(super().extra_repr(), *self.margins)
