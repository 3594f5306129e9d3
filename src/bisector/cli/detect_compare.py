"""Train detectors with several heads on the same boxes, and show what came out.

Prints a table and writes detections.html. Every training is kept under cells/ as `bisector detect
train` keeps it: the same command, started again after it was interrupted, goes on where it was.
"""

import argparse
import os
import sys
from pathlib import Path

from bisector.cli.detect_options import PAGE, add_data, say_page, tell_left_out
from bisector.cli.options import add_options, record_of
from bisector.cli.output import require_folder, say
from bisector.detection.recipe import BoxRecipe, BoxTask
from bisector.head_names import HEAD_CLASSES
from bisector.training.recipe import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect compare``."""
    add_data(parser, required=True)
    parser.add_argument(
        "--heads",
        required=True,
        help=f"names, with options after colons, separated by commas ({', '.join(HEAD_CLASSES)})",
    )
    add_shared_arguments(parser)


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the demo has too."""
    parser.add_argument(
        "--seeds", type=int, default=1, help="how often each head is trained (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=None, help="trainings at a time (default: one a GPU, or as many as cores)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/detect-compare"),
        help="folder for everything that is written (default: %(default)s)",
    )
    add_options(parser, BoxRecipe, Machine, without=["devices"])


def run(arguments: argparse.Namespace, command: str) -> None:
    """Compare, print the table, write the files."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    task, recipe = record_of(BoxTask, arguments), record_of(BoxRecipe, arguments)
    machine, out = record_of(Machine, arguments), arguments.out
    heads = [head.strip() for head in arguments.heads.split(",") if head.strip()]
    require_folder(out)

    from tqdm import tqdm

    from bisector.detection.compare import compare_detectors
    from bisector.detection.data import load_box_task
    from bisector.report.detection_run import DetectionRun
    from bisector.report.detection_text import format_scores
    from bisector.report.numbers import duration

    splits = load_box_task(task, 0)  # also fetches, once, what the trainings need
    tell_left_out(splits, "compare")
    with tqdm(
        total=len(heads) * arguments.seeds * recipe.epochs,
        unit="epoch",
        file=sys.stderr,
        dynamic_ncols=True,
        delay=1e-3,
    ) as bar:

        def progress(what: str, epochs: int) -> None:
            bar.set_description(f"{what:<34.34}", refresh=False)
            bar.update(epochs)

        compared = compare_detectors(
            task,
            heads,
            out / "cells",
            seeds=arguments.seeds,
            recipe=recipe,
            machine=machine,
            jobs=arguments.jobs,
            progress=progress,
        )
    runs = [DetectionRun(r.head, r.seed, r.scores, found, classified=r.classified) for r, found in compared]
    truth = splits.validation if splits.test is None else splits.test
    title = f"{', '.join(heads)} on {truth.name}"
    took = duration(sum(result.seconds for result, _ in compared))
    say("\n".join([title, "", format_scores([(run.name, run.scores) for run in runs]), ""]))
    for result, _ in compared:
        line = f"{result.head}, seed {result.seed}: trained and scored in {duration(result.seconds)}"
        if result.classified is not None:
            share = 100 * result.classified.balanced_accuracy
            line += f"; given the true boxes, {share:.1f}% get their class (class mean)"
        say(line)
    say(f"\nNote: The trainings took {took} together.\nEach training: {out / 'cells'}")
    say_page(out / PAGE, runs, truth, title=title, command=command)
