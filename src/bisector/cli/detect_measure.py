"""Measure how much each class holds, on the true boxes, and how that goes with AP: the report of `measure`.

The boxes of the ground truth are embedded as regions of interest. Written are embeddings.parquet, as
`bisector embed` writes it, and everything that `bisector measure` writes.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.detect_options import (
    add_data,
    add_machine,
    add_out,
    data_options,
    device_of,
    task_of,
    warn_of_data,
)
from bisector.cli.output import require_folder, say, tell
from bisector.detection.recipe import PARTS, BoxTask
from bisector.errors import require_integer
from bisector.files import read_json, read_or_none, reading

if TYPE_CHECKING:
    from bisector.data.boxes import BoxSplits
    from bisector.detection.checkpoint import TrainedDetector
    from bisector.measurement.class_scores import ClassScores
    from bisector.measurement.next_step import Step

EMBEDDINGS = "embeddings.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect measure``."""
    add = parser.add_argument
    add("model", type=Path, help="folder of a run of bisector detect train, or file.ckpt")
    add_data(parser, required=False)
    add("--part", default="all", choices=("all", *PARTS), help="of the data (default: all)")
    add(
        "--seed",
        type=int,
        help="that draws a validation part or a plugin's pictures (default: the training's)",
    )
    add_machine(parser)
    add(
        "--shrinkage",
        metavar="NAME",
        default="quadratic-inverse",
        help="of the covariances (default: %(default)s)",
    )
    add(
        "--embeddings",
        choices=("unit", "raw"),
        default="unit",
        help="amounts of unit embeddings, or of embeddings as they are (default: %(default)s)",
    )
    add(
        "--equal-count", type=int, metavar="K", help="boxes of every class that equal amounts are measured on"
    )
    add_out(parser, "runs/detect-measure", "folder for everything")


def run(arguments: argparse.Namespace, command: str) -> Any:
    """Embed the boxes, measure, print, write the files."""
    out: Path = arguments.out
    require_folder(out)
    require_integer("--batch-size", arguments.batch_size, least=1)
    if arguments.equal_count is not None:
        require_integer("--equal-count", arguments.equal_count, least=2)

    from tqdm import tqdm

    from bisector.data.tables import read_embeddings
    from bisector.detection.checkpoint import load_detector
    from bisector.detection.data import load_box_task
    from bisector.detection.predict import write_box_embeddings
    from bisector.measurement.measure import measure
    from bisector.report.measurement import format_measurement
    from bisector.report.measurement_files import write_measurement

    device = device_of(arguments.device)
    trained = load_detector(arguments.model)
    task = task_of(arguments, trained)
    seed = trained.seed if arguments.seed is None else arguments.seed
    splits = load_box_task(task, seed, pixel_range=trained.pixel_range)
    warn_of_data(splits, "measure")
    tell("detect measure", trained.unfinished)
    trained.require_classes(splits.train)
    parts = PARTS if arguments.part == "all" else (arguments.part,)
    out.mkdir(parents=True, exist_ok=True)
    file = out / EMBEDDINGS
    total = sum(len(part) for name in parts if (part := getattr(splits, name)) is not None)
    with tqdm(total=total, unit="picture", file=sys.stderr, dynamic_ncols=True, disable=None) as bar:
        rows = write_box_embeddings(
            trained.model.to(device).network,
            splits,
            file,
            parts=parts,
            model=str(arguments.model),
            data=task.data,
            settings={"seed": seed, "part": None if arguments.part == "all" else arguments.part},
            batch_size=arguments.batch_size,
            progress=bar.update,
        )
    say(f"{rows:,} boxes: {file}\n")
    found = measure(
        read_embeddings(file),
        file=str(file),
        command=command,
        scores=_scores(trained, splits),
        shrinkage=arguments.shrinkage,
        embeddings=arguments.embeddings,
        equal_count=arguments.equal_count,
        seed=seed,
    )
    found = replace(found, steps=_steps(found.steps, task, str(arguments.model)))
    page, record, *_ = write_measurement(found, out)
    say(f"{format_measurement(found)}\n\nThe page: {page}")
    return read_json(record)


def _scores(trained: "TrainedDetector", splits: "BoxSplits") -> "list[ClassScores]":
    """AP and AP50 of each class, as the training left them; none where other boxes are measured."""
    from bisector.detection.train import BoxResult
    from bisector.measurement.class_scores import ClassScores
    from bisector.training.results import RESULT, read_result
    from bisector.training.settings import SETTINGS

    def same(path: Path) -> bool:
        with reading(f"model: got {path}; expected the settings of a training"):
            return bool(read_json(path)["fingerprint"] == splits.fingerprint())

    without = "measured without AP"
    place, settings = trained.path.parent / RESULT, trained.path.parent / SETTINGS
    if not place.is_file():
        tell("detect measure", f"no {place}: {without}")
        return []
    if not read_or_none(settings, same, without):
        of = f"{trained.task.data}, seed {trained.seed}"
        tell("detect measure", f"{place} is of {of}, and these are other boxes: {without}")
        return []
    result = read_or_none(place, partial(read_result, BoxResult), without)
    if result is None:
        return []
    of_class = {"AP": result.scores.class_ap, "AP50": result.scores.class_ap50}
    return [ClassScores(name, str(place), list(ap), percent=True) for name, ap in of_class.items()]


def _steps(steps: "Sequence[Step]", task: BoxTask, model: str) -> "list[Step]":
    """The next steps of a measurement with commands that train, score and measure detectors."""
    from bisector.measurement.command import command_line

    data = data_options(task)
    train = command_line("bisector detect train", options=data)
    measure = command_line("bisector detect measure", model, options=data)
    evaluate = command_line("bisector detect evaluate", model, options={**data, "adjust": "prior"})
    commands = {
        "chance": f"{train} --epochs 24",
        "leakage": measure,
        "labels": measure,
        "small": f"{train} --repeat-threshold 0.001",
        "prior": evaluate,
        "amount": f"{train} --head igam",
        "compare": f"{train} --head normalized-softmax",
    }
    for method in ("prior", "fitted", "geometry"):
        fit = command_line("bisector detect adjust", model, options={**data, "method": method})
        commands[f"adjust {method}"] = evaluate if method == "prior" else fit

    def own(step: "Step") -> str:
        tried = step.command.rpartition(" ")[2]  # the method of the step that moves boundaries
        return commands.get(step.key, commands.get(f"{step.key} {tried}", step.command))

    return [replace(step, command=own(step)) for step in steps]
