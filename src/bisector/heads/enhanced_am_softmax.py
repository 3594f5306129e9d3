"""EnhancedAMSoftmax: AM-softmax with a margin on the competitors too and a divisor M = exp(m)."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, Unpack

from bisector.errors import require_choice, require_number
from bisector.functional.margins import Margin, additive_cosine
from bisector.functional.row_losses import RowLoss, RowLossKind
from bisector.heads._base import CosineOptions
from bisector.heads._warm_up import WarmUpHead

Form: TypeAlias = Literal["log", "printed", "code", "notebook"]


@dataclass(frozen=True)
class _Parts:
    """Which of the parts a published form has."""

    competitor_margin: bool
    row_loss: RowLossKind = "log"
    added_target: bool = False


_FORMS: dict[Form, _Parts] = {
    "log": _Parts(competitor_margin=True),
    "printed": _Parts(competitor_margin=True, row_loss="probability"),
    "code": _Parts(competitor_margin=False),
    "notebook": _Parts(competitor_margin=False, added_target=True),
}


class EnhancedAMSoftmax(WarmUpHead):
    r"""Enhanced AM-softmax.

    .. math:: z_y = s\,(\cos\theta_y - m) / M, \qquad z_j = s\,(\cos\theta_j + m), \qquad M = e^m

    Its source gives four forms; they are presets of the parts, each of which can also be set alone:

    ========== ================ ================= ==========================================
    form       target           competitors       row loss
    ========== ================ ================= ==========================================
    "log"      (cos - m) / M    cos + m           -log softmax: the formula with its logarithm
    "printed"  (cos - m) / M    cos + m           -softmax: as printed, without a logarithm
    "code"     (cos - m) / M    cos               -log softmax: the slide's line of code
    "notebook" (cos - m) / M    cos               soft targets onehot + m: the authors' notebook
    ========== ================ ================= ==========================================

    (The printed formula also writes :math:`\cos\theta_y` where the competitor's :math:`\cos\theta_j` is meant.)

    What to know before using it:

    - A lower loss after dividing by M is no evidence of quality: M shrinks the logits.
    - Without M, the margin m on the competitors is AM-softmax with margin 2m, up to a shift of all logits.
    - With M, up to a shift, the target is :math:`(s/M)(\cos\theta_y - m(1 + M))`, 0.705 at m = 0.3: no angle
      satisfies that boundary once a competitor has :math:`\cos\theta_j > 0.219`, and the loss has a floor:
      2.83 for C = 100,000 at :math:`\cos\theta_y = 1, \cos\theta_j = 0`.
    - "notebook" is an unnormalised smoothing of mass 1 + C m; its optimum is
      :math:`p_y = (1 + m)/(1 + C m)`: 32.5% at C = 10 and 0.4% at C = 1000.

    Args:
        in_features: D.
        num_classes: C.
        margin: m in cosine units.
        scale: s, or "auto".
        warmup: the steps in which the margins grow from 0, and M from 1, counted by `observe`; 0 for none. The soft
            targets of "notebook" are no margin and stay.
        form: one of the four presets.
        divisor: M; exp(m) if None.
        competitor_margin: what is added to the competitors' cosines; m or 0, as the form says, if None.
        row_loss: "log" or "probability"; as the form says if None.
        options: those of `CosineHead` and `Head`.

    Source: the deck *Enhanced AM softmax loss* (Agarwal, Vashisht) and its public notebook.

    >>> import torch
    >>> EnhancedAMSoftmax(8, 3, form="code")(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).dim()
    0
    """

    label = "Enhanced AM-softmax"
    summary = "AM-softmax with a margin for the competitors too and a divisor for the true class"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: float = 0.30,
        scale: float | Literal["auto"] = 40.0,
        warmup: int = 0,
        form: Form = "log",
        divisor: float | None = None,
        competitor_margin: float | None = None,
        row_loss: RowLossKind | None = None,
        **options: Unpack[CosineOptions],
    ) -> None:
        parts = _FORMS[require_choice("form", form, _FORMS)]
        margin = require_number("margin", margin, least=0)
        divisor = math.exp(margin) if divisor is None else require_number("divisor", divisor, above=0)
        if competitor_margin is None:
            competitor_margin = margin if parts.competitor_margin else 0.0
        added_target = margin if parts.added_target else 0.0
        super().__init__(
            in_features,
            num_classes,
            scale=scale,
            warmup=warmup,
            row_loss=RowLoss(row_loss or parts.row_loss, added_target=added_target),
            **options,
        )
        self.target_margin = margin
        self.form = form
        self.divisor = divisor
        self.competitor_margin = require_number("competitor_margin", competitor_margin)

    def margin(self) -> Margin:
        """Return the rules of the true class and of its competitors."""
        if self.steps is not None:
            grown = self.grown()
            own = additive_cosine(self.target_margin * grown, self.divisor**grown)
            shift = self.competitor_margin * grown
            # To take from the true class what the competitors would get changes no softmax; it may be a tensor.
            return Margin(
                target=lambda cosine, labels: own(cosine, labels) - shift, custom=self.custom_margin
            )
        return Margin(
            target=additive_cosine(self.target_margin, self.divisor),
            competitor_shift=self.competitor_margin,
            custom=self.custom_margin,
        )

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        parts = f"margin={self.target_margin:g}, form={self.form!r}, divisor={self.divisor:.4g}"
        return f"{super().extra_repr()}, {parts}, competitor_margin={self.competitor_margin:g}"
