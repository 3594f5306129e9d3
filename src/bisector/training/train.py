"""One training, from data to result: killed at any moment and started again, it leaves the same result."""

import json
import logging
import pickle
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
from bisector.training.results import RESULT, Run

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
    given = dict(trainer or {})
    description = describe(task, recipe, head, seed, dataset, machine=machine, trainer=_noted(given))
    check_settings(folder, description)
    kept = recipe.select == "last" or folder is not None
    require(kept, "select", "'best' without a folder", "a folder, where the best weights are kept")
    last = folder / LAST if folder is not None and (folder / LAST).is_file() else None
    with quiet_lightning():
        torch.set_num_threads(machine.threads)
        model = build_model(description, pretrained=recipe.pretrained and last is None)
        guide, log = InformationGuide(), EpochLog(folder, dataset.class_names)
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
            "deterministic": "warn",  # on a GPU some layers have no such form; on the CPU all have
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "plugins": [AtomicCheckpoints()],
            **given,
        }
        options["callbacks"] = [*options.pop("callbacks", []), *callbacks]
        try:
            runner = lightning.Trainer(**options)
        except (MisconfigurationException, ValueError) as error:
            raise ArgumentError(f"trainer: {error}") from None
        batches = DataModule(
            dataset, recipe.batch_size, seed=seed, augmentation=recipe.augment, workers=machine.workers
        )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / SETTINGS, json.dumps(description, indent=1) + "\n")
        try:
            runner.fit(model, datamodule=batches, ckpt_path=last, weights_only=True)
        except SystemExit:  # how Lightning leaves when it is interrupted
            raise KeyboardInterrupt from None
        except MisconfigurationException as error:
            raise ArgumentError(f"trainer: {error}") from None
        except pickle.UnpicklingError:
            raise ArgumentError(f"out: got {last}; expected a checkpoint that bisector wrote") from None
        if recipe.select == "best" and folder is not None and (folder / BEST).is_file():
            model = load_trained(folder / BEST).model
        model = (
            model.to(runner.strategy.root_device).float().eval()
        )  # as it is loaded, whatever it was trained in
        run = evaluate(
            model,
            dataset,
            head,
            seed,
            history=[info.amount.tolist() for info in guide.history],
            workers=machine.workers,
        )
    return model.cpu(), replace(run, seconds=clock.seconds, epochs=len(log.rows))


def is_finished(
    dataset: Dataset,
    task: Task,
    head: str,
    recipe: Recipe,
    *,
    seed: int,
    machine: Machine,
    folder: Path,
    trainer: Mapping[str, Any],
) -> bool:
    """Say whether the folder holds the result of this very training.

    Raises:
        ArgumentError: the folder holds a training with other settings.
    """
    noted = _noted(dict(trainer))
    description = describe(task, recipe, head, seed, dataset, machine=machine, trainer=noted)
    return check_settings(folder, description) and (folder / RESULT).is_file()


def check_settings(folder: Path | None, description: dict[str, Any]) -> bool:
    """Say whether the folder holds this very training, finished or not; it may hold a shorter one too.

    Raises:
        ArgumentError: the folder holds a training with other settings.
    """
    settings = None if folder is None else folder / SETTINGS
    if settings is None or not settings.is_file():
        return False
    mine = json.loads(json.dumps(description))
    try:
        theirs = json.loads(settings.read_text(encoding="utf-8"))
        other = _difference(theirs, mine)
    except (ValueError, KeyError, TypeError, AttributeError):
        other = "a settings.json that bisector did not write"
    require(not other, "out", f"{folder}, which holds {other}", "an empty folder, or the same settings")
    return bool(theirs == mine)


def _difference(theirs: dict[str, Any], mine: dict[str, Any]) -> str:
    """Say the first setting that differs; a training may be made longer."""
    for group in ("task", "recipe"):
        for name, value in theirs[group].items():
            new = mine[group].get(name)
            if new != value and not (name == "epochs" and new > value):
                return f"a training with {name} {value!r}, not {new!r}"
    if theirs["fingerprint"] != mine["fingerprint"]:
        return "a training on other data: the files have changed since"
    for name in ("head", "seed", "precision", "devices", "trainer"):
        if theirs[name] != mine[name]:
            return f"a training with {name} {theirs[name]!r}, not {mine[name]!r}"
    return ""


def _noted(trainer: dict[str, Any]) -> dict[str, str]:
    """Return the options of the Trainer on which a result may depend, as text."""
    silent = {
        "callbacks",
        "logger",
        "profiler",
        "enable_progress_bar",
        "enable_model_summary",
        "log_every_n_steps",
    }
    return {name: str(value) for name, value in trainer.items() if name not in silent}


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
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
        try:
            yield
        finally:
            logger.setLevel(level)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
