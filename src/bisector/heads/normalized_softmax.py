"""NormalizedSoftmax: cosines without a margin."""

from typing import Literal, Unpack

from bisector.heads._base import CosineHead, CosineOptions


class NormalizedSoftmax(CosineHead):
    r"""Cross-entropy over scaled cosines: the weight norms are ignored, every boundary is a bisector.

    .. math:: z_j = s \cos\theta_j

    The IGAM poster's first step, "directly equalise the decision space", and the control that tells what a
    margin adds to normalisation. With `custom_margin` it is any margin loss that you can write down.

    Args:
        in_features: D.
        num_classes: C.
        scale: s, or "auto".
        options: those of `CosineHead` and `Head`.

    >>> import torch
    >>> def my_margin(cos, y, j):  # 0.2 on the true class, nothing on the others
    ...     return torch.where(j == y, cos - 0.2, cos)
    >>> head = NormalizedSoftmax(8, 3, scale=16, custom_margin=my_margin)
    >>> head(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).dim()
    0
    """

    label = "Normalised softmax"
    summary = "cosines in place of inner products, no margin: every boundary is a bisector"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: float | Literal["auto"] = 30.0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, **options)
