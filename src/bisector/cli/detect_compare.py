"""Train detectors with several heads on the same boxes, and show what came out.

Prints a table and writes detections.html. Every training is kept under cells/ as `bisector detect
train` keeps it: the same command, started again after it was interrupted, goes on where it was.
"""

import argparse
import os
import sys
from functools import partial
from typing import Any

from bisector.cli.config import add_config
from bisector.cli.detect_options import PAGE, add_data, add_out, run_of, say_page, warn_of_data
from bisector.cli.dry_run import dry_run
from bisector.cli.options import add_options, record_of
from bisector.cli.output import require_folder, say, tell
from bisector.cores import require_tasks
from bisector.detection.recipe import BoxRecipe, BoxTask, full_spec
from bisector.heads import HEAD_NAMES, parsed_head, require_baseline
from bisector.heads._names import require_distinct
from bisector.training.recipe import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect compare``."""
    add = parser.add_argument
    add_data(parser, required=True)
    add(
        "--heads",
        required=True,
        help=f"names, with options after colons, separated by commas ({', '.join(HEAD_NAMES)})",
    )
    add_config(parser)
    add("--seeds", type=int, default=1, help="how often each head is trained (default: %(default)s)")
    add("--baseline", default="", help="the head from which differences are taken (default: the first)")
    add(
        "--jobs", type=int, default=None, help="trainings at a time (default: one a GPU, or as many as cores)"
    )
    add(
        "--dry-run",
        action="store_true",
        help="train each head for some steps, say what all would take in time and memory, and stop",
    )
    add_out(parser, "runs/detect-compare")
    add_options(parser, BoxRecipe, Machine, without=["devices"])


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Compare, print the table, write the files."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    task, recipe = record_of(BoxTask, arguments), record_of(BoxRecipe, arguments)
    machine, out = record_of(Machine, arguments), arguments.out
    heads = [head.strip() for head in arguments.heads.split(",") if head.strip()]
    for head in heads:
        parsed_head(full_spec(head))
    require_distinct(heads)
    if arguments.jobs is not None:
        require_tasks("jobs", arguments.jobs)
    require_baseline(arguments.baseline, heads)
    if arguments.dry_run:
        read = partial(_plan, arguments, task, heads, recipe, machine)
        return dry_run(task.data, read, cells=out / "cells", machine=machine, jobs=arguments.jobs, keep=True)
    require_folder(out)

    from tqdm import tqdm

    from bisector.detection.compare import plan
    from bisector.report.detection_text import format_compared, format_scores
    from bisector.report.words import duration
    from bisector.training.precision import slow_precision
    from bisector.training.processes import Order, default_jobs, run_cells

    cells, splits = plan(task, heads, seeds=arguments.seeds, recipe=recipe, machine=machine)
    warn_of_data(splits, "compare")
    tell("detect compare", slow_precision(machine))
    total = len(heads) * arguments.seeds * recipe.epochs
    with tqdm(total=total, unit="epoch", file=sys.stderr, dynamic_ncols=True, delay=1e-3) as bar:

        def progress(what: str, epochs: int) -> None:
            bar.set_description(f"{what:<34.34}", refresh=False)
            bar.update(epochs)

        jobs = arguments.jobs or default_jobs(machine)
        results = run_cells(cells, Order(out / "cells", machine, keep=True), jobs, progress)
    # The page draws what was detected with the first seed.
    compared = [
        (result, cell.detections(out / "cells" / cell.key) if cell.seed == 0 else [])
        for cell, result in zip(cells, results, strict=True)
    ]
    truth = splits.truth
    title = f"{', '.join(heads)} on {truth.name}"
    took = duration(sum(result.seconds for result, _ in compared))
    say("\n".join([title, "", format_scores([(result.head, result.scores) for result, _ in compared]), ""]))
    if arguments.seeds > 1:
        scored = [(result.head, result.seed, result.scores) for result, _ in compared]
        say(f"{format_compared(scored, arguments.baseline)}\n")
    for result, _ in compared:
        line = f"{result.head}, seed {result.seed}: trained and scored in {duration(result.seconds)}"
        if result.classified is not None:
            share = 100 * result.classified.balanced_accuracy
            line += f"; given the true boxes, {share:.1f}% get their class (class mean)"
        say(line)
    say(f"\nNote: The trainings took {took} together.\nEach training: {out / 'cells'}")
    say_page(out / PAGE, [run_of(*one) for one in compared], truth, title=title, command=command)
    return {"results": results}


def _plan(
    arguments: argparse.Namespace, task: BoxTask, heads: list[str], recipe: BoxRecipe, machine: Machine
) -> Any:
    from bisector.detection.compare import plan
    from bisector.training.precision import slow_precision

    cells, splits = plan(task, heads, seeds=arguments.seeds, recipe=recipe, machine=machine)
    warn_of_data(splits, "compare")
    tell("detect compare", slow_precision(machine))
    names = ("train", "validation", "test")
    parts = ", ".join(f"{len(part):,} {name}" for name, part in zip(names, splits.parts, strict=False))
    return cells, f"{splits.train.name}: {len(splits.train.class_names):,} classes; pictures: {parts}"
