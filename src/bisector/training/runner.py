"""Lightning's Trainer as we run it: quiet, resumable, its complaints in one line."""

import logging
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bisector.errors import ArgumentError, reason_of
from bisector.training._lightning import (
    Callback,
    LightningDataModule,
    LightningModule,
    MisconfigurationException,
    Trainer,
)
from bisector.training.checkpoints import AtomicCheckpoints
from bisector.training.parents import leave_with_launcher
from bisector.training.recipe import Machine

Progress = Callable[[int], None]
"""Told the epochs that were done since the last call."""


def make_trainer(
    epochs: int,
    machine: Machine,
    callbacks: Sequence[Callback],
    given: Mapping[str, Any],
    **defaults: Any,
) -> Trainer:
    """Return the Trainer of a training that can be killed at any moment.

    What is given wins over our options and defaults; our callbacks come after those that are given.

    Raises:
        ArgumentError: Lightning refuses them.
    """
    ours: dict[str, Any] = {
        "max_epochs": epochs,
        "accelerator": machine.accelerator,
        "devices": machine.devices,
        "strategy": "ddp" if machine.devices > 1 else "auto",
        "precision": machine.precision,
        "deterministic": "warn",  # on a GPU some layers have no such form; on the CPU all have
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "plugins": [AtomicCheckpoints()],
    }
    callbacks = [*given.get("callbacks", []), *callbacks]
    try:
        return Trainer(**{**ours, **defaults, **given, "callbacks": callbacks})
    except (MisconfigurationException, ValueError, ImportError) as error:  # a precision can need a package
        raise ArgumentError(f"trainer: {reason_of(error)}") from None


def fit(
    runner: Trainer,
    model: LightningModule,
    batches: LightningDataModule,
    last: Path | None,
) -> None:
    """Train, from a checkpoint if there is one.

    Raises:
        ArgumentError: the Trainer refuses its options.
        KeyboardInterrupt: it was interrupted.
    """
    if runner.world_size > 1:
        leave_with_launcher()
    try:
        runner.fit(model, datamodule=batches, ckpt_path=last, weights_only=True)
    except SystemExit:  # how Lightning leaves when it is interrupted
        raise KeyboardInterrupt from None
    except MisconfigurationException as error:
        raise ArgumentError(f"trainer: {error}") from None


class Clock(Callback):
    """Tell the epochs as they pass, and measure the seconds of all that led to the result."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.before = 0.0
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """So far."""
        return self.before + time.perf_counter() - self.start

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs to know."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume."""
        self.before, self.start = state_dict["seconds"], time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the epochs that were done before."""
        if trainer.current_epoch:
            self.progress(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the epoch."""
        self.progress(1)


def _but_for_loaders(told: Callable[..., None], kind: type[BaseException], *others: Any) -> None:
    """Pass over what the thread that shares tensors says of a loader that was killed while it took one."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main or not issubclass(kind, (EOFError, ConnectionError)):
        told(kind, *others)


def _of_a_killed_loader(error: Exception) -> bool:
    """Return whether a loading process was killed: while it hands a tensor over, multiprocessing fails."""
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker")
    frames = traceback.extract_tb(error.__traceback__)
    return not isinstance(error, BrokenPipeError) and "multiprocessing" in Path(frames[-1].filename).parts


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says of devices and workers, and undo what it sets for the whole process.

    Raises:
        ArgumentError: a process that loads data was killed.
    """
    logger = logging.getLogger("lightning.pytorch")
    level, threads = logger.level, torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    logger.setLevel(logging.ERROR)
    told = sys.excepthook
    sys.excepthook = partial(_but_for_loaders, told)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
        try:
            yield
        except (RuntimeError, EOFError, ConnectionError) as error:
            if not _of_a_killed_loader(error):
                raise
            raise ArgumentError(
                "workers: a process that loads data was killed, perhaps for want of memory; what is done is kept: "
                "run the same command again, with fewer --workers"
            ) from None
        finally:
            sys.excepthook = told
            logger.setLevel(level)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
