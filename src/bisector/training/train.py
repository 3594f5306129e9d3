"""One training, from data to result: killed at any moment and started again, it leaves the same result."""

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bisector.data.dataset import Dataset
from bisector.errors import ArgumentError, missing_extra, require
from bisector.files import write_whole
from bisector.heads import IGAM
from bisector.training.checkpoint import build_model, describe, load_trained
from bisector.training.checkpoints import BEST, LAST, AtomicCheckpoints, Checkpoints
from bisector.training.data import DataModule
from bisector.training.epoch_log import EpochLog
from bisector.training.evaluate import evaluate
from bisector.training.guide import InformationGuide
from bisector.training.module import Classifier
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import Run

try:
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import EarlyStopping
except ImportError as error:
    raise missing_extra("lightning", "train") from error

SETTINGS = "settings.json"

Progress = Callable[[int], None]
"""Told the epochs that were done since the last call."""


def train(
    dataset: Dataset,
    task: Task,
    head: str,
    recipe: Recipe,
    *,
    seed: int = 0,
    machine: Machine | None = None,
    folder: Path | None = None,
    trainer: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Classifier, Run]:
    """Train one head on a data set and evaluate it.

    With a folder, everything is kept there (``last.ckpt``, ``best.ckpt``, ``metrics.csv``, ``amounts.csv``,
    ``settings.json``), and a training of the same settings that was begun there is gone on with.
    Whatever is random is a function of (seed, epoch, index), so that on the CPU the result is bit by bit that of a
    training that was never interrupted.

    Args:
        dataset: what `task` names, loaded with `seed`.
        task: for the record.
        head: spec, such as "igam:preset=paper".
        recipe: how to train.
        seed: decides the first weights, the order and the augmentation.
        machine: with which means; the defaults if None.
        folder: where to keep it; nothing is kept if None.
        trainer: further arguments of Lightning's Trainer, which win over ours.
        progress: told after every epoch.

    Returns:
        The model in evaluation mode, and its result.

    Raises:
        ArgumentError: an option is not legal, or the folder holds a training with other settings.
    """
    machine = Machine() if machine is None else machine
    if folder is None:
        description, last = describe(task, recipe, head, seed, dataset), None
    else:
        description = check_settings(folder, task, recipe, head, seed, dataset)
        last = _begin(folder, description)
    with quiet_lightning():
        torch.set_num_threads(machine.threads)
        model = build_model(description, pretrained=recipe.pretrained and last is None)
        guide, log = InformationGuide(), EpochLog(folder)
        guided = isinstance(model.head, IGAM) and model.head.information is not None
        clock = _Clock(progress or (lambda epochs: None))
        callbacks: list[lightning.Callback] = [*([guide] if guided else []), log, clock]
        if recipe.patience is not None:
            callbacks.append(_EarlyStopping(recipe.patience))
        if folder is not None:
            callbacks.append(Checkpoints(folder, machine.checkpoint_steps, description))
        options: dict[str, Any] = {
            "max_epochs": recipe.epochs,
            "accelerator": machine.accelerator,
            "devices": machine.devices,
            "strategy": "ddp" if machine.devices > 1 else "auto",
            "precision": machine.precision,
            "deterministic": True,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "plugins": [AtomicCheckpoints()],
            **(trainer or {}),
        }
        options["callbacks"] = [*options.pop("callbacks", []), *callbacks]
        try:
            runner = lightning.Trainer(**options)
        except (MisconfigurationException, ValueError) as error:
            raise ArgumentError(f"trainer: {error}") from None
        batches = DataModule(
            dataset, recipe.batch_size, seed=seed, augmentation=recipe.augment, workers=machine.workers
        )
        try:
            runner.fit(model, datamodule=batches, ckpt_path=last, weights_only=True)
        except SystemExit:  # how Lightning leaves when it is interrupted
            raise KeyboardInterrupt from None
        if recipe.select == "best" and folder is not None and (folder / BEST).is_file():
            model = load_trained(folder / BEST).model
        model = model.to(runner.strategy.root_device).eval()
        run = evaluate(
            model,
            dataset,
            head,
            seed,
            history=[info.amount.tolist() for info in guide.history],
            workers=machine.workers,
        )
    return model.cpu(), replace(run, seconds=clock.seconds, epochs=recipe.epochs)


def check_settings(
    folder: Path, task: Task, recipe: Recipe, head: str, seed: int, dataset: Dataset
) -> dict[str, Any]:
    """Return the description of a training, if the folder is free for it or holds it already.

    Raises:
        ArgumentError: the folder holds a training with other settings.
    """
    mine: dict[str, Any] = json.loads(json.dumps(describe(task, recipe, head, seed, dataset)))
    settings = folder / SETTINGS
    if settings.is_file():
        other = _difference(json.loads(settings.read_text(encoding="utf-8")), mine)
        got = f"{folder}, which holds a training with {other}"
        require(not other, "out", got, "an empty folder, or the same settings")
    return mine


def _begin(folder: Path, description: dict[str, Any]) -> Path | None:
    """Return the checkpoint to go on from, if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SETTINGS, json.dumps(description, indent=1) + "\n")
    return folder / LAST if (folder / LAST).is_file() else None


def _difference(theirs: dict[str, Any], mine: dict[str, Any]) -> str:
    """Say the first setting that differs; a training may be made longer."""
    for group in ("task", "recipe"):
        for name, value in theirs[group].items():
            if name != "epochs" and mine[group].get(name) != value:
                return f"{name} {value!r}, not {mine[group].get(name)!r}"
    for name in ("head", "seed", "class_names", "shape", "train_counts"):
        if theirs[name] != mine[name]:
            return f"another {name.replace('_', ' ')}: {str(theirs[name])[:60]}"
    return ""


class _Clock(lightning.Callback):
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
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before, self.start = state_dict["seconds"], time.perf_counter()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch:
            self.progress(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.progress(1)


class _EarlyStopping(EarlyStopping):
    """Lightning's, which forgets that it has stopped when it is resumed.

    It is checked when the validation ends, and so before the epoch's checkpoint is written.
    """

    def __init__(self, patience: int) -> None:
        super().__init__(
            "val/balanced_accuracy", mode="max", patience=patience, check_on_train_epoch_end=False
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says of devices and workers, and undo what it sets for the whole process."""
    logger = logging.getLogger("lightning.pytorch")
    level, threads = logger.level, torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            logger.setLevel(level)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
