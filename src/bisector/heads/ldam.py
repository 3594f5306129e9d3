"""LDAM: larger margins for rarer classes."""

from typing import Literal, Unpack

from torch import Tensor

from bisector.errors import require_number
from bisector.functional.margins import Margin, additive_cosine
from bisector.heads._base import CosineHead, CosineOptions


class LDAM(CosineHead):
    r"""Label-distribution-aware margin: AM-softmax whose margin falls with the fourth root of the count.

    .. math:: z_y = s\,(\cos\theta_y - m_y), \qquad m_c = m_{\max}\,(n_c / \min_k n_k)^{-1/4}

    Args:
        in_features: D.
        num_classes: C.
        max_margin: the margin of the rarest class, in cosine units.
        scale: s, or "auto".
        options: those of `CosineHead` and `Head`; class_counts is needed. A class without instances is taken
            to have one.

    Raises:
        ArgumentError: class_counts are missing.

    Source: Cao et al., NeurIPS 2019.

    >>> LDAM(8, 3, class_counts=[256, 16, 1]).class_margins()
    tensor([0.1250, 0.2500, 0.5000])
    """

    label = "LDAM"
    summary = "AM-softmax with a larger margin for classes with fewer training instances"
    needs_counts = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        max_margin: float = 0.5,
        scale: float | Literal["auto"] = 30.0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, **options)
        self.max_margin = require_number("max_margin", max_margin, least=0)

    def class_margins(self) -> Tensor:
        """Return the (C,) margins in cosine units."""
        assert self.class_counts is not None  # the constructor demands them
        counts = self.class_counts.clamp_min(1)
        return self.max_margin * (counts / counts.min()) ** -0.25

    def margin(self) -> Margin:
        """Return the rule of the true class."""
        return Margin(target=additive_cosine(self.class_margins()), custom=self.custom_margin)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{super().extra_repr()}, max_margin={self.max_margin:g}"
