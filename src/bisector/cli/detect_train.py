"""Train a detector with one head on your boxes; killed at any moment, the same command goes on where it was.

What is left in --out: last.ckpt, best.ckpt, metrics.csv, amounts.csv (of heads that measure), settings.json,
result.json, detections.json (COCO's results format) and detections.html.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bisector.cli.config import add_config
from bisector.cli.detect_options import DETECTIONS, add_data, finish, task_of, tell_left_out
from bisector.cli.options import add_options, record_of
from bisector.cli.output import require_folder, say
from bisector.detection.recipe import BoxRecipe
from bisector.files import read_or_none
from bisector.head_names import HEAD_CLASSES
from bisector.training.recipe import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect train``."""
    add_config(parser)
    add_data(parser, required=True)
    parser.add_argument(
        "--head",
        default="igam",
        help="name of the head, options after colons; linear is torchvision's own loss (default: %(default)s; "
        f"{', '.join(HEAD_CLASSES)})",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="decides first weights, order and what steps draw (default: 0)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/detect"),
        help="folder for everything that is written (default: %(default)s)",
    )
    parser.add_argument(
        "--tensorboard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write TensorBoard's event files too",
    )
    add_options(parser, BoxRecipe, Machine)


def run(arguments: argparse.Namespace, command: str) -> None:
    """Train, print what came out, write result.json, detections.json and the page."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    out: Path = arguments.out
    require_folder(out)
    task, recipe, machine = task_of(arguments), record_of(BoxRecipe, arguments), record_of(Machine, arguments)

    from bisector.detection.data import load_box_task
    from bisector.detection.evaluation import read_detections
    from bisector.detection.results import BoxResult
    from bisector.detection.spec import require_head
    from bisector.detection.train import Detection
    from bisector.report.detection_run import DetectionRun
    from bisector.report.words import duration
    from bisector.training.checkpoints import LAST
    from bisector.training.results import RESULT

    require_head(arguments.head)  # a wrong word is told before anything is read
    splits = load_box_task(task, arguments.seed)
    if _rank() == 0:
        tell_left_out(splits, "train")
    experiment = Detection(
        splits=splits, task=task, head=arguments.head, recipe=recipe, seed=arguments.seed, machine=machine
    )
    options, truth = _trainer_options(arguments), splits.truth
    finished = experiment.is_finished(out, options)
    stored = read_or_none(out / DETECTIONS, partial(read_detections, truth=truth)) if finished else None
    if stored is not None:
        result, found = BoxResult.read(out / RESULT), stored
    else:
        (out / RESULT).unlink(missing_ok=True)  # of a shorter training
        if _rank() == 0 and (out / LAST).is_file():
            print(f"going on with the training in {out}", file=sys.stderr)
        _, result, found = experiment.run(out, options)
        if _rank() != 0:
            return
    title = f"{result.head} on {truth.name}, seed {result.seed}: {result.model}"
    shown = DetectionRun(result.head, result.seed, result.scores, found, classified=result.classified)
    finish(shown, truth, out, command, title)
    say(f"Training and scoring took {duration(result.seconds)}.")
    result.write(out / RESULT)  # last: whoever finds it finds all the rest
    say(f"Everything is in {out}; next: bisector detect measure {out}")


def _rank() -> int:
    """Return the number of this process among those that train: Lightning starts the others with this command."""
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0))


def _trainer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    from lightning.pytorch.loggers import TensorBoardLogger

    bar = {"enable_progress_bar": sys.stderr.isatty() or sys.stdout.isatty()}
    logger = (
        TensorBoardLogger(arguments.out, name="tensorboard", version="") if arguments.tensorboard else None
    )
    return {**bar, "log_every_n_steps": 10, **({"logger": logger} if logger else {})}
