"""Classifier: a backbone and a head as a LightningModule."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from bisector.errors import missing_extra
from bisector.heads import IGAM, Head
from bisector.training.guide import InformationGuide

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error


class Classifier(lightning.LightningModule):
    """A backbone that makes embeddings and a head that makes its loss of them.

    Each training step returns the loss together with the embeddings and labels, detached, for callbacks such as
    `InformationGuide`.

    Args:
        backbone: images (or whatever the data are) to (B, D) embeddings.
        head: any head of bisector; its weights are trained with the backbone's.
        learning_rate: the highest of a one-cycle schedule.
        weight_decay: of AdamW.
    """

    def __init__(
        self, backbone: nn.Module, head: Head, *, learning_rate: float = 3e-3, weight_decay: float = 1e-2
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the (B, C) logits for inference."""
        return self.head.logits(self.backbone(inputs))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and what it was computed from."""
        inputs, labels = batch
        embeddings = self.backbone(inputs)
        loss = self.head(embeddings, labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels))
        return {"loss": loss, "embeddings": embeddings.detach(), "labels": labels}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the accuracy on the validation split."""
        inputs, labels = batch
        right = (self(inputs).argmax(dim=1) == labels).float().mean()
        self.log("val/accuracy", right, prog_bar=True, batch_size=len(labels))

    def on_fit_start(self) -> None:
        """Warn of an IGAM head that nobody feeds."""
        guided = any(isinstance(callback, InformationGuide) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        if isinstance(self.head, IGAM) and self.head.information is not None and not guided:
            message = (
                "the IGAM head has a meter, but no InformationGuide is among the Trainer's callbacks: its "
            )
            warnings.warn(message + "margins will not change", RuntimeWarning, stacklevel=2)

    def configure_optimizers(self) -> Any:
        """Return AdamW and its one-cycle schedule over the whole training."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        steps = self.trainer.estimated_stepping_batches
        if steps == math.inf:  # trained for a time, not for a number of steps: there is no cycle to plan
            return optimizer
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=int(steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
