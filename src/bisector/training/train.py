"""One training, from data to result: killed at any moment and started again, it leaves the same result."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bisector.data.dataset import Dataset
from bisector.errors import missing_extra, require, require_integer
from bisector.files import read_or_none, write_whole
from bisector.heads import IGAM
from bisector.training.checkpoint import build_model, describe, load_trained
from bisector.training.checkpoints import BEFORE, BEST, Checkpoints, resumable
from bisector.training.data import DataModule
from bisector.training.divergence import DivergedError, require_finite
from bisector.training.epoch_log import EpochLog
from bisector.training.evaluate import evaluate
from bisector.training.guide import InformationGuide
from bisector.training.module import Classifier
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import RESULT, Run, read_run
from bisector.training.runner import Clock, Progress, fit, make_trainer, quiet_lightning
from bisector.training.settings import SETTINGS, check_settings, noted_options

try:
    import lightning
    from lightning.pytorch.callbacks import EarlyStopping
except ImportError as error:
    raise missing_extra("lightning", "train") from error


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
        DivergedError: the loss, a weight or an embedding is not finite.
    """
    machine = Machine() if machine is None else machine
    given = dict(trainer or {})
    # Lightning divides by it.
    require_integer("trainer.accumulate_grad_batches", given.get("accumulate_grad_batches", 1), least=1)
    description = describe(task, recipe, head, seed, dataset, machine=machine, trainer=noted_options(given))
    check_settings(folder, description)
    kept = recipe.select == "last" or folder is not None
    require(kept, "select", "'best' without a folder", "a folder, where the best weights are kept")
    last, _ = resumable(folder)
    with quiet_lightning(), _named(head, seed):
        torch.set_num_threads(machine.threads)
        model = build_model(description, pretrained=recipe.pretrained and last is None)
        guide, log = InformationGuide(), EpochLog(folder, dataset.class_names)
        guided = isinstance(model.head, IGAM) and model.head.information is not None
        clock = Clock(progress or (lambda epochs: None))
        callbacks: list[lightning.Callback] = [*([guide] if guided else []), log, clock]
        if recipe.patience is not None:
            callbacks.append(_EarlyStopping(recipe.patience))
        if folder is not None:
            callbacks.append(Checkpoints(folder, machine.checkpoint_steps, description))
        runner = make_trainer(recipe.epochs, machine, callbacks, given)
        batches = DataModule(
            dataset, recipe.batch_size, seed=seed, augmentation=recipe.augment, workers=machine.workers
        )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / SETTINGS, json.dumps(description, indent=1) + "\n")
        fit(runner, model, batches, last)
        require_finite(model, "weights", [*model.parameters(), *model.buffers()])
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
    if folder is not None:
        (folder / BEFORE).unlink(missing_ok=True)
    return model.cpu(), replace(run, seconds=clock.seconds, epochs=len(log.rows))


@contextmanager
def _named(head: str, seed: int) -> Iterator[None]:
    """Say which training diverged: there may be many at a time."""
    try:
        yield
    except DivergedError as error:
        raise DivergedError(f"{head}, seed {seed}: {error}") from None


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
    noted = noted_options(dict(trainer))
    description = describe(task, recipe, head, seed, dataset, machine=machine, trainer=noted)
    return check_settings(folder, description) and read_or_none(folder / RESULT, read_run) is not None


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
