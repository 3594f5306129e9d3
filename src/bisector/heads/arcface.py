"""ArcFace: a margin on the angle of the true class."""

from typing import Literal, Unpack

from torch import Tensor

from bisector.functional.margins import Margin, additive_angle
from bisector.heads._base import CosineOptions
from bisector.heads._target_margin import TargetMarginHead


class ArcFace(TargetMarginHead):
    r"""Additive angular margin.

    .. math:: z_y = s\,\psi(\theta_y + m), \qquad z_j = s \cos\theta_j

    :math:`\psi` is the cosine, continued so that it goes on falling beyond pi: the logit of the true class is
    monotone over the whole circle and its gradient is the true one, neither of which common implementations
    have near :math:`\theta = \pi - m`.

    Args:
        in_features: D.
        num_classes: C.
        margin: m in radians; a number, or (C,) one for each class.
        scale: s, or "auto".
        warmup: the steps in which the margin grows from 0, counted by `observe`; 0 for none.
        options: those of `CosineHead` and `Head`.

    Source: Deng et al., CVPR 2019.

    >>> import torch
    >>> ArcFace(8, 3)(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).dim()
    0
    """

    label = "ArcFace"
    summary = "cosines; in training an angle is added to that of the true class, the same for every class"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: float | Tensor = 0.5,
        scale: float | Literal["auto"] = 64.0,
        warmup: int = 0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margin=margin, scale=scale, warmup=warmup, **options)

    def margin(self) -> Margin:
        """Return the rule of the true class."""
        return Margin(target=additive_angle(self.present_margin()), custom=self.custom_margin)
