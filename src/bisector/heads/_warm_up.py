"""What the heads share whose margin can grow from 0 in the first steps of a training."""

from typing import Literal, Unpack

import torch
from torch import Tensor

from bisector.errors import require_integer
from bisector.functional.row_losses import RowLoss
from bisector.heads._base import CosineHead, CosineOptions, widest


class WarmUpHead(CosineHead):
    r"""A cosine head whose margin grows linearly from 0 to its value in the first steps of the training.

    A network whose embeddings tell nothing yet may not get going at a large margin: its true cosines are moved
    where every class is as bad. With ``warmup=w`` step t = 0, 1, ... has :math:`\min(1, t/w)` of the margin.

    The steps are batches, counted by ``head.observe(embeddings, labels)`` after each, as every head counts that
    knows what it has seen: where gradients are accumulated, a step of the optimiser counts as several. The loss
    itself changes no state: it may be computed again (activation checkpointing, validation, several batches for
    one step of the optimiser) or compiled. While nothing observes, the margin stays what it is. Lightning's
    `bisector.training.Classifier`, detectors and the integrations observe by themselves.

    Attributes:
        steps: the buffer of the steps counted, () int64, in the state dict; None without a warm-up.
    """

    steps: Tensor | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        warmup: int,
        scale: float | Literal["auto"],
        row_loss: RowLoss | None = None,
        **options: Unpack[CosineOptions],
    ) -> None:
        super().__init__(in_features, num_classes, scale=scale, row_loss=row_loss, **options)
        self.warmup = require_integer("warmup", warmup, least=0)
        zero = torch.zeros((), dtype=torch.int64, device=self._place) if self.warmup else None
        self.register_buffer("steps", zero)

    def grown(self) -> float | Tensor:
        """Return the share of the margin that holds now: 1, or with a warm-up a 0-d tensor, made anew each time.

        A tensor, since a number that changes would be compiled anew in every step.
        """
        if self.steps is None:
            return 1.0
        device = self.weight.device
        return (self.steps.to(device, widest(device)) / self.warmup).clamp(max=1)

    @torch.no_grad()
    def observe(
        self,
        embeddings: Tensor,  # (B, D)
        labels: Tensor,  # (B,)
    ) -> None:
        """Count a step of the warm-up; nothing without one. Neither argument is looked at."""
        if self.steps is not None:
            self.steps += 1

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Make all that is learned or observed anew: the warm-up begins again."""
        super().reset_parameters()
        if self._buffers.get("steps") is not None:  # not there yet when the first part of the head is made
            self.get_buffer("steps").zero_()

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return super().extra_repr() + (f", warmup={self.warmup}" if self.warmup else "")
