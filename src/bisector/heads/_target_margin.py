"""What the heads share whose one margin acts on the true class."""

from typing import Literal, Unpack

import torch
from torch import Tensor

from bisector.checks import require_of_each_class
from bisector.errors import require, require_number
from bisector.heads._base import CosineOptions
from bisector.heads._warm_up import WarmUpHead


class TargetMarginHead(WarmUpHead):
    """A cosine head with a margin on the true class: one number for all, or one for each class.

    Attributes:
        target_margin: the number, or a (C,) buffer.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: float | Tensor,
        scale: float | Literal["auto"],
        warmup: int,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, warmup=warmup, **options)
        self.target_margin: float | Tensor
        if isinstance(margin, Tensor) and margin.dim() > 0:
            precise = torch.promote_types(self.weight.dtype, torch.float32)
            vector = margin.detach().to(self._place, precise, copy=True)
            shape = f"shape {tuple(vector.shape)}"
            require(vector.shape == (num_classes,), "margin", shape, f"a number, or ({num_classes},)")
            require_of_each_class("margin", vector, vector.isfinite(), "finite numbers")
            self.register_buffer("target_margin", vector)
        else:
            number = margin.item() if isinstance(margin, Tensor) else margin
            self.target_margin = require_number("margin", number)

    def present_margin(self) -> float | Tensor:
        """Return the margin as it is now, in the warm-up a part of `target_margin`."""
        return self.target_margin if self.steps is None else self.target_margin * self.grown()

    def _extend(self, k: int) -> None:
        super()._extend(k)
        if isinstance(self.target_margin, Tensor):
            self.target_margin = torch.cat([self.target_margin, self.target_margin.mean().expand(k)])

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        m = self.target_margin
        shown = f"({len(m)} margins, {m.min():.3g} to {m.max():.3g})" if isinstance(m, Tensor) else f"{m:g}"
        return f"{super().extra_repr()}, margin={shown}"
