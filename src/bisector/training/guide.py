"""InformationGuide: the Lightning callback that lets a head's margins follow its information amounts."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, distributed

from bisector.errors import ArgumentError, missing_extra, require, require_integer
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

    Where several processes train together, every process observes the embeddings of all, in the order of their
    ranks: all measure the same amounts, those of one process with the joint batch, and none is counted twice.

    Args:
        head: the attribute of the module that holds the head.
        every_n_epochs: how often to refresh.

    Attributes:
        history: what each refresh measured, oldest first; a resumed training knows those before too.
    """

    def __init__(self, *, head: str = "head", every_n_epochs: int = 1) -> None:
        self.head = head
        self.every_n_epochs = require_integer("every_n_epochs", every_n_epochs, least=1)
        self.history: list[ClassInformation] = []
        self._observed: int | None = None  # the last epoch that was observed and not refreshed yet

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Refuse what would silently go wrong.

        Raises:
            ArgumentError: the head is no IGAM or has no meter.
        """
        head = self._igam(pl_module)
        require(head.information is not None, "information", "None", "a meter, for InformationGuide to feed")

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs to know."""
        return {"observed": self._observed, "history": [asdict(info) for info in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume."""
        self._observed = state_dict["observed"]
        self.history = [ClassInformation(**info) for info in state_dict.get("history", [])]

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Refresh late, where training was resumed from between an epoch's last step and its end.

        Lightning fires no event of that epoch's end again, nor always one of the next one's start.
        """
        if self._observed is not None and self._observed < trainer.current_epoch:
            self._end_epoch(self._observed, pl_module)

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
        embeddings, labels = outputs["embeddings"], outputs["labels"]
        if trainer.world_size > 1:
            embeddings, labels = of_all_processes(embeddings), of_all_processes(labels)
        self._igam(pl_module).observe(embeddings, labels)
        self._observed = trainer.current_epoch

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refresh the margins and log the amounts."""
        self._end_epoch(trainer.current_epoch, pl_module)

    def _end_epoch(self, epoch: int, pl_module: lightning.LightningModule) -> None:
        self._observed = None
        if (epoch + 1) % self.every_n_epochs:
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
            got = (
                f"{type(head).__name__} as .{self.head}" if head is not None else f"no attribute .{self.head}"
            )
            raise ArgumentError(f"head: got {got} of the module; expected an IGAM")
        return head


def of_all_processes(
    rows: Tensor,  # (B, ...), B may differ between the processes
) -> Tensor:
    """Return the rows of every process, in the order of the ranks."""
    counts = [
        torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(distributed.get_world_size())
    ]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    most = int(max(counts))
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])]).contiguous()
    gathered = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(gathered, padded)
    return torch.cat([part[: int(count)] for part, count in zip(gathered, counts, strict=True)])
