"""Checkpoints that survive being killed at any moment: the last one, and the best on validation."""

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.errors import DamagedFileError
from bisector.files import note, read_json, read_or_none, read_tensors, reading, whole_file
from bisector.training._lightning import Callback, LightningModule, TorchCheckpointIO, Trainer
from bisector.training.settings import SETTINGS

LAST, BEST = "last.ckpt", "best.ckpt"
BEFORE = "before.ckpt"  # the one before the last, until the training has ended


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when whole; the one before the last stays too."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write, or leave what was there."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as file:
            torch.save(checkpoint, file)
            if place.name == LAST and place.is_file():
                before = place.with_name(BEFORE)
                before.unlink(missing_ok=True)
                with suppress(OSError):  # a file system without links: then only the last one is kept
                    before.hardlink_to(place)


def read_checkpoint(name: str, path: Path, writer: str = "bisector") -> dict[str, Any]:
    """Read a checkpoint that `Checkpoints` saved.

    Raises:
        DamagedFileError: it is damaged, or none of ours.
        OSError: it cannot be read.
    """
    with reading(f"{name}: got {path}; expected a checkpoint that {writer} wrote"):
        stored = read_tensors(path)
        missing = [key for key in ("bisector", "state_dict", "callbacks", "epoch") if key not in stored]
        if missing or not isinstance(stored["bisector"], dict):
            raise TypeError(f"no {missing[0] if missing else 'description'}")
        epochs_done(stored)  # raises where they are not counted
        return stored


def read_selected(path: Path, kind: str, writer: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Read a checkpoint, or of the folder of a training the one that the training selected.

    Args:
        path: of the file or the folder.
        kind: "classifier" or "detector", which it must be of.
        writer: for people.

    Returns:
        The path of the one that is meant, what it holds, and what the training's last one holds.

    Raises:
        DamagedFileError: one is damaged, or none of ours.
        OSError: one cannot be read.
    """
    file = path / LAST if path.is_dir() else path
    last = read_checkpoint("model", file, writer)
    with reading(f"model: got {file}; expected a checkpoint that {writer} wrote"):
        held = last["bisector"].get("kind", "classifier")
        if held != kind:
            raise TypeError(f"it is a {held}'s")
        best = path / BEST
        if path.is_dir() and last["bisector"]["recipe"].get("select") == "best" and best.is_file():
            return best, read_checkpoint("model", best, writer), last
        return file, last, last


def epochs_done(stored: dict[str, Any]) -> int:
    """Return how many epochs were finished when a checkpoint was written: one that it cut into is none."""
    return len(stored["callbacks"]["EpochLog"]["rows"])


def resumable(folder: Path | None) -> tuple[Path | None, dict[str, Any]]:
    """Return the checkpoint from which a training goes on, and its description; None where there is none.

    Where the last one is damaged the one before it takes its place, which is said.

    Raises:
        DamagedFileError: the last one is damaged, and there is none before it.
    """
    path, description, damage = _last_whole(folder)
    if damage is not None:
        note(f"{damage}: going on from the checkpoint before it")
    return path, description


def begun_in(folder: Path, epochs: int, then: str, *, trained: bool = False) -> str:
    """Say how far the training in a folder is, and what is done now; empty where none was begun.

    Args:
        folder: of the training.
        epochs: that it shall have.
        then: what is left to do when it has them.
        trained: whether it is known to have ended, perhaps early.
    """
    if not (folder / LAST).is_file():
        return ""
    where = ""
    with suppress(DamagedFileError):  # told when it is gone on from
        done = epochs_done(read_checkpoint("out", folder / LAST))
        if trained or done >= epochs:
            return f"the training in {folder} is finished and its weights stay; {then}"
        where = f", in epoch {done + 1} of {epochs}"
    return f"going on with the training in {folder}{where}"


def remove_damaged(folder: Path | None) -> None:
    """Remove the folder of a training that can be made again where what it goes on from is damaged, and say so."""
    if folder is None or not folder.is_dir():
        return
    try:
        _last_whole(folder)
        if (folder / SETTINGS).is_file():
            with reading(f"out: got {folder / SETTINGS}; expected the settings of a training"):
                dict(read_json(folder / SETTINGS))
    except DamagedFileError as error:
        note(f"{error}: trained anew")
        shutil.rmtree(folder)


def _last_whole(folder: Path | None) -> tuple[Path | None, dict[str, Any], Exception | None]:
    """The last checkpoint that is whole, its description, and what is wrong with the one after it."""
    if folder is None or not ((folder / LAST).is_file() or (folder / BEFORE).is_file()):
        return None, {}, None
    last, before = folder / LAST, folder / BEFORE
    try:
        return last, read_checkpoint("out", last)["bisector"], None
    except (DamagedFileError, FileNotFoundError) as error:
        found = read_or_none(before, partial(read_checkpoint, "out"))
        if found is None:
            raise
        return before, found["bisector"], error


class Checkpoints(Callback):
    """Save ``last.ckpt`` at the end of every epoch and every so many steps, ``best.ckpt`` at every better epoch.

    Better means a higher `monitor`. A training that is resumed from ``last.ckpt`` goes on exactly
    where that was saved; it must be the last callback, so that what the others know is in it.

    Args:
        folder: where to.
        every_n_steps: how often, in optimizer steps.
        description: plain values by which the model can be built again, saved with it as ``bisector``.
        monitor: name of what is logged after each validation, the higher the better.
    """

    def __init__(self, folder: Path, every_n_steps: int, description: dict[str, Any], monitor: str) -> None:
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
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the description."""
        checkpoint["bisector"] = self.description

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the checkpoint before a damaged last one in its place, now that all processes have read it."""
        if trainer.is_global_zero and trainer.ckpt_path == self.folder / BEFORE:
            (self.folder / BEFORE).replace(self.folder / LAST)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the step: between two steps gradients are accumulated, which no checkpoint holds."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every so many steps, but at the end of an epoch only when all of it is done."""
        due = trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._step
        if due and batch_idx + 1 < trainer.num_training_batches:
            trainer.save_checkpoint(self.folder / LAST)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        reached: Tensor | None = trainer.callback_metrics.get(self.monitor)
        if reached is not None and (self.best is None or float(reached) > self.best):
            self.best = float(reached)
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)
