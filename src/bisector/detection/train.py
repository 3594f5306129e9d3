"""One training of a detector, from pictures to scores: killed at any moment and started again, the same result."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bisector.data.boxes import BoxSet, BoxSplits, repeat_factors
from bisector.detection.checkpoint import build_model, describe, load_detector, with_fixed
from bisector.detection.data import BoxData
from bisector.detection.evaluation import Detections, evaluate_boxes
from bisector.detection.measure import classify_truth
from bisector.detection.module import HEAD, Detector
from bisector.detection.predict import detect, gathered, in_order, share_buffers
from bisector.detection.recipe import PRECISIONS, BoxRecipe, BoxTask
from bisector.detection.results import BoxResult
from bisector.errors import missing_extra, require, require_choice
from bisector.files import read_or_none, write_whole
from bisector.training.checkpoints import BEFORE, BEST, Checkpoints, resumable
from bisector.training.epoch_log import EpochLog
from bisector.training.guide import InformationGuide
from bisector.training.recipe import Machine
from bisector.training.results import RESULT
from bisector.training.runner import Clock, Progress, fit, make_trainer, quiet_lightning
from bisector.training.settings import SETTINGS, check_settings, noted_options

try:
    import lightning
except ImportError as error:
    raise missing_extra("lightning", "train") from error

BACKGROUND = "(background)"


def train_detector(
    splits: BoxSplits,
    task: BoxTask,
    head: str,
    recipe: BoxRecipe,
    *,
    seed: int = 0,
    machine: Machine | None = None,
    folder: Path | None = None,
    trainer: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Detector, BoxResult, list[Detections]]:
    """Train a detector with one head and score it on the test part, or on validation where there is no other.

    With a folder, everything is kept there (``last.ckpt``, ``best.ckpt``, ``metrics.csv``, ``amounts.csv``,
    ``settings.json``), and a training of the same settings that was begun there is gone on with. Whatever is random
    is a function of (seed, epoch, step), so that on one thread of the CPU the result is bit by bit that of a
    training that was never interrupted.

    Args:
        splits: what `task` names, loaded with `seed`.
        task: for the record.
        head: spec, such as "igam:preset=paper"; "linear" is torchvision's own loss.
        recipe: how to train.
        seed: decides the first weights, the order, mirroring and what each step draws.
        machine: with which means; the defaults if None.
        folder: where to keep it; nothing is kept if None.
        trainer: further arguments of Lightning's Trainer, which win over ours.
        progress: told after every epoch.

    Returns:
        The model in evaluation mode, its result, and what it detected in the part that was scored.

    Raises:
        ArgumentError: an option is not legal, a picture can't be read, a loss is not finite, or the folder holds a
            training with other settings.
    """
    machine = Machine() if machine is None else machine
    require_choice("precision", machine.precision, PRECISIONS)
    given = dict(trainer or {})
    description = describe(splits, task, head, recipe, seed, machine=machine, trainer=noted_options(given))
    check_settings(folder, description)
    kept = recipe.select == "last" or folder is not None
    require(kept, "select", "'best' without a folder", "a folder, where the best weights are kept")
    alone = recipe.objectness and len(splits.train.class_names) == 1
    require(
        not alone, "objectness", "it with one class", "no objectness: beside it there is nothing to classify"
    )
    require(bool(splits.train.counts.sum()), "data", "no box to train on", "at least one that is no crowd")
    part = "validation" if splits.test is None else "test"
    truth = splits.validation if splits.test is None else splits.test
    for name, boxes in (("validation", splits.validation), (part, truth)):
        require(len(boxes) > 0, "data", f"no picture in the {name} part", "at least one")
    last, begun = resumable(folder)
    with quiet_lightning():
        torch.set_num_threads(machine.threads)
        model = build_model(description, fixed=begun.get("fixed"), truth=splits.validation)
        names = splits.train.class_names if recipe.objectness else (BACKGROUND, *splits.train.class_names)
        guide, log = InformationGuide(head=HEAD), EpochLog(folder, names)
        clock = Clock(progress or (lambda epochs: None))
        callbacks: list[lightning.Callback] = [*([guide] if model.measures else []), log, clock]
        if folder is not None:
            noted = with_fixed(description, model)
            callbacks.append(Checkpoints(folder, machine.checkpoint_steps, noted, monitor="val/ap50"))
        runner = make_trainer(
            recipe.epochs,
            machine,
            callbacks,
            given,
            check_val_every_n_epoch=recipe.validate_every,
            # Torchvision pools regions in a slow way of its own where a GPU is asked for determinism.
            deterministic="warn" if _on_cpu(machine) else False,
        )
        batches = BoxData(
            splits.train,
            splits.validation,
            recipe.batch_size,
            seed=seed,
            repeats=_repeats(splits.train, recipe),
            flip=recipe.flip,
            workers=machine.workers,
        )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / SETTINGS, json.dumps(description, indent=1) + "\n")
        fit(runner, model, batches, last)
        measured, notes = guide.history, []
        if recipe.select == "best" and folder is not None and (folder / BEST).is_file():
            chosen = load_detector(folder / BEST)
            model, measured = chosen.model, guide.history[: chosen.epochs]
            if truth is splits.validation:
                notes.append(
                    f"the weights are those of epoch {chosen.epochs}, the best of {len(log.rows)} on these very "
                    "pictures: on others it may score less"
                )
        # As it is loaded, whatever it was trained in.
        model = model.to(runner.strategy.root_device).float().eval()
        share_buffers(model.network)
        how: dict[str, Any] = {
            "batch_size": recipe.batch_size,
            "workers": machine.workers,
            "rank": runner.global_rank,
            "world_size": runner.world_size,
        }
        found = in_order(gathered(detect(model.network, truth, **how)), truth)
        history = [info.amount[len(names) - len(truth.class_names) :] for info in guide.history]
        scores = evaluate_boxes(
            truth,
            found,
            train_counts=splits.train.counts,
            train_image_counts=splits.train.image_counts,
            amounts=history[len(measured) - 1] if measured else None,
        )
        scores = replace(scores, notes=(*scores.notes, *notes))
        classified = classify_truth(model.network, truth, scores.class_frequency, **how)
    if folder is not None:
        (folder / BEFORE).unlink(missing_ok=True)
    result = BoxResult(
        head=head,
        seed=seed,
        model=recipe.model,
        data=task.data,
        part=part,
        scores=scores,
        seconds=clock.seconds,
        epochs=len(log.rows),
        classified=classified,
        amount_history=[amounts.tolist() for amounts in history],
    )
    return model.cpu(), result, found


def is_finished(
    splits: BoxSplits,
    task: BoxTask,
    head: str,
    recipe: BoxRecipe,
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
    description = describe(splits, task, head, recipe, seed, machine=machine, trainer=noted)
    return check_settings(folder, description) and read_or_none(folder / RESULT, BoxResult.read) is not None


def _repeats(train: BoxSet, recipe: BoxRecipe) -> torch.Tensor | None:
    if recipe.repeat_threshold == 0:
        return None
    return repeat_factors(train, recipe.repeat_threshold)


def _on_cpu(machine: Machine) -> bool:
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return machine.accelerator == "cpu" or (machine.accelerator == "auto" and not accelerated)
