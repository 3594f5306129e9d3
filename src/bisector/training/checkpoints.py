"""Checkpoints that survive being killed at any moment: the last one, and the best on validation."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.errors import missing_extra

try:
    import lightning
    from lightning.pytorch.plugins.io import TorchCheckpointIO
except ImportError as error:
    raise missing_extra("lightning", "train") from error

LAST, BEST = "last.ckpt", "best.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole and on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write, or leave what was there."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            with draft.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)


class Checkpoints(lightning.Callback):
    """Save ``last.ckpt`` at the end of every epoch and every so many steps, ``best.ckpt`` at every better epoch.

    Better means a higher `monitor`. A training that is resumed from ``last.ckpt`` goes on exactly
    where that was saved; it must be the last callback, so that what the others know is in it.

    Args:
        folder: where to.
        every_n_steps: how often, in optimizer steps.
        description: plain values by which the model can be built again, saved with it as ``bisector``.
        monitor: name of what is logged after each validation, the higher the better.
    """

    def __init__(
        self,
        folder: Path,
        every_n_steps: int,
        description: dict[str, Any],
        *,
        monitor: str = "val/balanced_accuracy",
    ) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.description = description
        self.monitor = monitor
        self.best: float | None = None
        self._step = 0  # of the optimizer, before the batch

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs to know."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume."""
        self.best = state_dict["best"]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the description."""
        checkpoint["bisector"] = self.description

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the step: between two steps gradients are accumulated, which no checkpoint holds."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save every so many steps, but at the end of an epoch only when all of it is done."""
        due = trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._step
        if due and batch_idx + 1 < trainer.num_training_batches:
            self._save(trainer, LAST)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save."""
        reached: Tensor | None = trainer.callback_metrics.get(self.monitor)
        if reached is not None and (self.best is None or float(reached) > self.best):
            self.best = float(reached)
            self._save(trainer, BEST)
        self._save(trainer, LAST)

    def _save(self, trainer: lightning.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name)
