"""EpochLog: the numbers of every epoch in metrics.csv, complete however often the training was killed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.files import write_rows
from bisector.training._lightning import Callback, LightningModule, Trainer
from bisector.training.guide import InformationGuide


class EpochLog(Callback):
    """Write one row an epoch to ``metrics.csv``, and an IGAM head's amounts to ``amounts.csv``.

    The rows travel with the checkpoint and the files are written whole each time, so that a resumed training leaves
    the same files as one that was never killed; Lightning's CSVLogger begins a new file instead. The columns are
    ``epoch``, ``step``, ``train/loss`` (the mean over the epoch's batches, in the first process), its parts where
    ``training_step`` returns such a dict as "parts", and whatever is logged at an epoch's end.

    Attributes:
        rows: one dict an epoch.
    """

    def __init__(self, folder: Path | None, class_names: Sequence[str]) -> None:
        self.folder = folder
        self.class_names = class_names
        self.rows: list[dict[str, float]] = []
        self._loss: float | Tensor = 0.0  # a tensor, so that no step waits for the device
        self._parts: dict[str, float | Tensor] = {}
        self._batches = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the rows and the epoch so far."""
        parts = {name: float(value) for name, value in self._parts.items()}
        return {"rows": self.rows, "loss": float(self._loss), "parts": parts, "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume."""
        self.rows = list(state_dict["rows"])
        self._loss, self._batches = state_dict["loss"], state_dict["batches"]
        self._parts = dict(state_dict.get("parts", {}))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up the loss."""
        self._loss = self._loss + outputs["loss"].detach().float()
        for name, value in outputs.get("parts", {}).items():
            self._parts[name] = self._parts.get(name, 0.0) + value.detach().float()
        self._batches += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        found = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name != "train/loss"
            and torch.as_tensor(value).numel() == 1
            and (validated or not name.startswith("val/"))  # those of an earlier epoch are still there
        }
        sums = {"loss": self._loss, **self._parts}
        means = {f"train/{name}": float(total) / max(self._batches, 1) for name, total in sums.items()}
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **means, **found}
        self.rows.append(row)
        self._loss, self._parts, self._batches = 0.0, {}, 0
        if self.folder is None or not trainer.is_global_zero:
            return
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        rows = ([row.get(name, "") for name in columns] for row in self.rows)
        write_rows(self.folder / "metrics.csv", [columns, *rows])
        for guide in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(guide, InformationGuide):
                numbered = [[n, *info.amount.tolist()] for n, info in enumerate(guide.history, 1)]
                write_rows(self.folder / "amounts.csv", [["refresh", *self.class_names], *numbered])
