"""Train a detector with one head on your boxes; killed at any moment, the same command goes on where it was.

What is left in --out: last.ckpt, best.ckpt, metrics.csv, amounts.csv (of heads that measure), settings.json,
result.json, detections.json (COCO's results format) and detections.html.
"""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bisector.cli.config import add_config
from bisector.cli.detect_options import DETECTIONS, add_data, add_out, finish, task_of, warn_of_data
from bisector.cli.options import add_options, logging_options, process_rank, record_of
from bisector.cli.output import require_folder, say, tell
from bisector.data.plugins import plugin_of
from bisector.detection.recipe import BoxRecipe, full_spec
from bisector.errors import require
from bisector.files import read_or_none
from bisector.heads import HEAD_NAMES, parsed_head
from bisector.training.recipe import Machine

if TYPE_CHECKING:
    from bisector.detection.train import BoxResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect train``."""
    add = parser.add_argument
    add_config(parser)
    add_data(parser, required=True)
    add(
        "--head",
        default="igam",
        help="name of the head, options after colons; linear is torchvision's own loss (default: %(default)s; "
        f"{', '.join(HEAD_NAMES)})",
    )
    add("--seed", type=int, default=0, help="decides first weights, order and what steps draw (default: 0)")
    add_out(parser, "runs/detect")
    add(
        "--tensorboard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write TensorBoard's event files too",
    )
    add_options(parser, BoxRecipe, Machine)


def run(arguments: argparse.Namespace, command: str) -> "BoxResult | None":
    """Train, print what came out, write result.json, detections.json and the page."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    out: Path = arguments.out
    require_folder(out)
    task, recipe, machine = task_of(arguments), record_of(BoxRecipe, arguments), record_of(Machine, arguments)

    parsed_head(full_spec(arguments.head))
    there = plugin_of(task.data) is not None or os.path.exists(Path(task.data).expanduser())  # noqa: PTH110
    legal = "a folder of Pascal VOC, COCO or LVIS, file.json, or plugin.py:option=value"
    require(there, "data", f"{task.data}, where no file or folder is", legal)

    from bisector.detection.attaching import require_head
    from bisector.detection.data import load_box_task
    from bisector.detection.evaluation import read_detections
    from bisector.detection.train import BoxResult, Detection
    from bisector.report.words import duration
    from bisector.training.checkpoints import begun_in
    from bisector.training.precision import slow_precision
    from bisector.training.results import RESULT, read_result

    require_head(arguments.head)  # a wrong value is an error before anything is read
    splits = load_box_task(task, arguments.seed)
    if process_rank() == 0:
        warn_of_data(splits, "train")
        tell("detect train", slow_precision(machine))
    experiment = Detection(
        splits=splits, task=task, head=arguments.head, recipe=recipe, seed=arguments.seed, machine=machine
    )
    options = {"log_every_n_steps": 10, **logging_options(out, tensorboard=arguments.tensorboard)}
    truth = splits.truth
    finished = experiment.is_finished(out, options)
    stored = read_or_none(out / DETECTIONS, partial(read_detections, truth=truth)) if finished else None
    if stored is not None:
        result, found = read_result(BoxResult, out / RESULT), stored
    else:
        trained = experiment.is_trained(out, options)
        (out / RESULT).unlink(missing_ok=True)  # of a shorter training
        if process_rank() == 0:
            tell("detect train", begun_in(out, recipe.epochs, "its detector is evaluated", trained=trained))
        _, result, found = experiment.run(out, options)
        if process_rank() != 0:
            return None
    title = f"{result.head} on {truth.name}, seed {result.seed}: {result.model}"
    finish(result, found, truth, out, command, title)
    say(f"Training and scoring took {duration(result.seconds)}.")
    say(f"Everything is in {out}; next: bisector detect measure {out}")
    return result
