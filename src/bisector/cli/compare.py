"""Train several heads on the same data, several times, and show what came out.

Prints a table and writes comparison.json, comparison.csv, differences.csv and report.html. Every training is kept
under cells/ when it is done: the same command, started again after it was interrupted, goes on where it was.
"""

import argparse
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bisector.cli.config import add_config
from bisector.cli.dry_run import dry_run
from bisector.cli.options import add_options, record_of
from bisector.cli.output import add_json, require_folder, say, tell
from bisector.cores import require_tasks
from bisector.data.places import require_data_name
from bisector.errors import require_integer
from bisector.heads import HEAD_NAMES, parsed_head
from bisector.heads._names import require_baseline, require_distinct
from bisector.networks.names import require_backbone
from bisector.training.recipe import DECIDE, DECIDE_HELP, DECISIONS, Machine, Recipe, Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector compare``."""
    parser.add_argument(
        "--heads",
        required=True,
        help=f"names, with options after colons, separated by commas: am-softmax,igam:preset=paper "
        f"({', '.join(HEAD_NAMES)})",
    )
    parser.add_argument(
        "--planes",
        default="",
        help="heads to train once more with a two-dimensional embedding, for the pictures of their boundaries",
    )
    parser.add_argument(
        "--baseline", default="", help="the head from which differences are taken (default: the first)"
    )
    add_shared_arguments(parser)


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the demo has too."""
    add_config(parser)
    parser.add_argument("--seeds", type=int, default=3, help="how often each head is trained (default: 3)")
    parser.add_argument("--decide", default=DECIDE, choices=DECISIONS, help=DECIDE_HELP)
    parser.add_argument(
        "--jobs", type=int, default=None, help="trainings at a time (default: one a GPU, or as many as cores)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep each training's checkpoints, for `bisector embed`"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train each head for some steps, say what all would take in time and memory, and stop",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        help="folder for everything that is written (default: %(default)s)",
    )
    add_json(parser)
    add_options(parser, Task, Recipe, Machine, without=["devices"])


def run(arguments: argparse.Namespace, command: str) -> Any:
    """Compare, print the table, write the files."""
    # Small matrices: threads that spin while they wait cost more than they bring.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    task, recipe = record_of(Task, arguments), record_of(Recipe, arguments)
    machine = record_of(Machine, arguments)
    heads, planes = _names(arguments.heads), _names(arguments.planes)
    for spec in (*heads, *planes):
        parsed_head(spec)
    require_distinct(heads)
    require_distinct(planes, "planes")
    require_integer("seeds", arguments.seeds, least=1)
    require_baseline(arguments.baseline, heads)
    require_backbone(recipe.backbone)
    require_data_name(task.data)
    if arguments.jobs is not None:
        require_tasks("jobs", arguments.jobs)
    if arguments.dry_run:
        read = partial(_plan, arguments, task, recipe, machine)
        return dry_run(task.data, read, cells=arguments.out / "cells", machine=machine, jobs=arguments.jobs)
    out: Path = arguments.out
    require_folder(out)

    from tqdm import tqdm

    from bisector.report.comparison import write_outputs
    from bisector.training.compare import PLANE_EPOCHS, compare

    # The bar appears with the first epoch, so that a mistake found before is told in one line.
    total = (len(heads) * arguments.seeds + len(planes) * PLANE_EPOCHS) * recipe.epochs
    with tqdm(total=total, unit="epoch", file=sys.stderr, dynamic_ncols=True, delay=1e-3) as bar:

        def progress(what: str, epochs: int) -> None:
            bar.set_description(f"{what:<34.34}", refresh=False)
            bar.update(epochs)

        comparison = compare(
            task,
            heads,
            seeds=arguments.seeds,
            planes=planes,
            recipe=recipe,
            machine=machine,
            jobs=arguments.jobs,
            folder=out / "cells",
            keep=arguments.keep,
            decide=arguments.decide,
            baseline=arguments.baseline,
            command=command,
            progress=progress,
            tell=lambda line: bar.write(f"bisector compare: {line}", file=sys.stderr),
        )
    for line in comparison.left_out:
        print(f"left out: {line}", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    say(write_outputs(comparison, out, width=_width()))
    return comparison


def _plan(arguments: argparse.Namespace, task: Task, recipe: Recipe, machine: Machine) -> Any:
    from bisector.report.training import size_of
    from bisector.training.compare import plan
    from bisector.training.data import settled
    from bisector.training.precision import slow_precision

    heads, planes = _names(arguments.heads), _names(arguments.planes)
    how = {"seeds": arguments.seeds, "planes": planes, "recipe": recipe, "machine": machine}
    cells, dataset = plan(task, heads, **how, decide=arguments.decide)
    tell("compare", settled(task, recipe)[1], *dataset.notes, slow_precision(machine))
    for line in dataset.left_out:
        print(f"left out: {line}", file=sys.stderr)
    return cells, size_of(dataset)


def _width() -> int:
    return max(60, shutil.get_terminal_size((160, 24)).columns)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
