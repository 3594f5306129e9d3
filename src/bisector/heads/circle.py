"""Circle: each cosine is pulled the harder, the further it is from where it should be."""

from typing import Literal, Unpack

import torch
from torch import Tensor

from bisector.errors import require_number
from bisector.functional.margins import Margin
from bisector.heads._base import CosineHead, CosineOptions


class Circle(CosineHead):
    r"""Circle loss with class labels: every cosine has a weight of its own in its logit.

    .. math::
        z_y = s\,\alpha_y\,(\cos\theta_y - 1 + m), \qquad z_j = s\,\alpha_j\,(\cos\theta_j - m), \qquad
        \alpha_y = [1 + m - \cos\theta_y]_+, \quad \alpha_j = [\cos\theta_j + m]_+

    The weights :math:`\alpha` pass no gradient, as in public implementations. At its optimum
    :math:`\cos\theta_y = 1 - m` and :math:`\cos\theta_j = m`. The formula acts on whatever `custom_margin` returns,
    and rows of the background have plain cosines. The paper's loss for pairs of embeddings is not this head.

    Args:
        in_features: D.
        num_classes: C.
        margin: m, the relaxation, in cosine units.
        scale: s, the paper's gamma, or "auto".
        options: those of `CosineHead` and `Head`.

    Source: Sun et al., CVPR 2020 (arXiv 2002.10857), the loss with class-level labels.

    >>> Circle(8, 3)(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).dim()
    0
    """

    label = "Circle"
    summary = "cosines; in training each has a weight that grows with how far it is from where it should be"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: float = 0.25,
        scale: float | Literal["auto"] = 256.0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, **options)
        self.relaxation = require_number("margin", margin)

    def margin(self) -> Margin:
        """Return the weighted cosines, a function of each entry."""
        m, inner, background = self.relaxation, self.custom_margin, self.background

        def weighted(cosine: Tensor, y: Tensor, j: Tensor) -> Tensor:
            cosine = cosine if inner is None else inner(cosine, y, j)
            fixed = cosine.detach()
            own = (1 + m - fixed).clamp_min(0) * (cosine - (1 - m))
            other = (fixed + m).clamp_min(0) * (cosine - m)
            moved = torch.where(y == j, own, other)
            return moved if background is None else torch.where(y == background, cosine, moved)

        return Margin(custom=weighted)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{super().extra_repr()}, margin={self.relaxation:g}"
