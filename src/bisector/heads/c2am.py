"""C2AM: pairwise angular margins guided by the norms of the class weights."""

from typing import Literal, Unpack

import torch

from bisector.engine.sharded import whole
from bisector.errors import require_choice, require_number
from bisector.functional.margins import DIRECTIONS, Direction, Margin, PairwiseMargin
from bisector.guides.amount import others
from bisector.guides.pairwise import guide_of
from bisector.heads._base import CosineHead, CosineOptions


class C2AM(CosineHead):
    r"""Category-aware angular margin: classes with longer weight vectors push the others away.

    .. math::
        z_y = s \cos\theta_y, \qquad z_j = s\,\psi(\theta_j + m_{yj}), \qquad
        m_{ij} = \max\bigl(0, \tfrac{\alpha}{\pi} \log \tfrac{|W_i|}{|W_j|}\bigr)

    The norms pass no gradient. With sub-centers, a class's norm is the mean of theirs. No margin exceeds pi / 2.

    Args:
        in_features: D.
        num_classes: C.
        alpha: the gain of the guide.
        direction: "relax" is the paper's ``theta_j + m``; "press" is ``theta_j - m``.
        scale: s, or "auto".
        options: those of `CosineHead` and `Head`.

    Source: Wang et al., CVPR 2022.

    >>> import torch
    >>> C2AM(8, 3)(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).dim()
    0
    """

    label = "C2AM"
    summary = "margins for pairs of classes, guided by the lengths of their weight vectors"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        alpha: float = 0.5,
        direction: Direction = "relax",
        scale: float | Literal["auto"] = 30.0,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, **options)
        self.alpha = require_number("alpha", alpha, least=0)
        self.direction: Direction = require_choice("direction", direction, DIRECTIONS)

    @property
    def guide(self) -> PairwiseMargin:
        """The margins that the weights have now; computed where the weights are, without waiting for them."""
        vectors = self.weight.detach().to(torch.promote_types(self.weight.dtype, torch.float32))
        norms = whole(torch.linalg.vector_norm(vectors, dim=-1))
        norms = norms.mean(dim=1) if norms.dim() == 2 else norms
        norms = others(norms, self.background)
        guide = guide_of(norms, gain=self.alpha, max_margin=None, direction=self.direction)
        return guide.with_bystander(self.background)

    def margin(self) -> Margin:
        """Return the angles of the competitors."""
        return Margin(pairwise=self.guide, custom=self.custom_margin)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{super().extra_repr()}, alpha={self.alpha:g}, direction={self.direction!r}"
