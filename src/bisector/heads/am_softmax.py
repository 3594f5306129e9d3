"""AMSoftmax: a margin on the cosine of the true class."""

from typing import Literal, Unpack

from torch import Tensor

from bisector.functional.margins import Margin, additive_cosine
from bisector.heads._base import CosineOptions
from bisector.heads._target_margin import TargetMarginHead


class AMSoftmax(TargetMarginHead):
    r"""Additive-margin softmax, also known as CosFace.

    .. math:: z_y = s\,(\cos\theta_y - m), \qquad z_j = s \cos\theta_j

    Args:
        in_features: D.
        num_classes: C.
        margin: m in cosine units; a number, or (C,) one for each class.
        scale: s, or "auto".
        warmup: the steps in which the margin grows from 0, counted by `observe`; 0 for none.
        options: those of `CosineHead` and `Head`.

    Source: Wang, Cheng, Liu, Liu 2018, arXiv 1801.05599; Wang et al., CVPR 2018 (CosFace).

    >>> import torch
    >>> AMSoftmax(8, 3)(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).dim()
    0
    """

    label = "AM-softmax"
    summary = "cosines; in training the true class must win by a margin, the same for every class"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: float | Tensor = 0.35,
        scale: float | Literal["auto"] = 30.0,
        warmup: int = 0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, margin=margin, scale=scale, warmup=warmup, **options)

    def margin(self) -> Margin:
        """Return the rule of the true class."""
        return Margin(target=additive_cosine(self.present_margin()), custom=self.custom_margin)
