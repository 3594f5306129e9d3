"""InformationGuide: the Lightning callback that lets a head's margins follow its information amounts."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bisector.errors import ArgumentError, missing_extra, require_integer
from bisector.heads import IGAM
from bisector.information.reading import ClassInformation

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error


class InformationGuide(lightning.Callback):
    """Feed an IGAM head's meter after every training step and refresh its margins after every epoch.

    The module's ``training_step`` must return a dict with "loss", "embeddings" and "labels", as that of
    `bisector.training.Classifier` does. After each refresh it logs ``information/mean``, ``information/min``,
    ``information/max`` (bits) and ``information/margin`` (the largest, radians).

    Args:
        head: the attribute of the module that holds the head.
        every_n_epochs: how often to refresh.

    Attributes:
        history: what each refresh measured, oldest first.
    """

    def __init__(self, *, head: str = "head", every_n_epochs: int = 1) -> None:
        self.head = head
        self.every_n_epochs = require_integer("every_n_epochs", every_n_epochs, least=1)
        self.history: list[ClassInformation] = []

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Observe the step's embeddings."""
        if not isinstance(outputs, Mapping) or not {"embeddings", "labels"} <= set(outputs):
            raise ArgumentError(
                "training_step: got no embeddings and labels; expected a dict with 'loss', 'embeddings', 'labels'"
            )
        self._igam(pl_module).observe(outputs["embeddings"], outputs["labels"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refresh the margins and log the amounts."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        head = self._igam(pl_module)
        info = head.refresh()
        self.history.append(info)
        known = info.amount[~info.amount.isnan()]
        if len(known) and head.guide is not None:
            pl_module.log_dict(
                {
                    "information/mean": known.mean().float(),
                    "information/min": known.min().float(),
                    "information/max": known.max().float(),
                    "information/margin": head.guide.largest().float(),
                }
            )

    def _igam(self, pl_module: lightning.LightningModule) -> IGAM:
        head = getattr(pl_module, self.head, None)
        if not isinstance(head, IGAM):
            raise ArgumentError(
                f"head: got {type(head).__name__} as .{self.head} of the module; expected an IGAM"
            )
        return head
