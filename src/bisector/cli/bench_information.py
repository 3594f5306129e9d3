"""Benchmarks of the information: a streaming meter, amounts beside others', what guides cost trainings."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli import bench_detector
from bisector.cli.measure import size_in_bytes
from bisector.cli.output import say
from bisector.errors import require, require_choice, require_integer

if TYPE_CHECKING:
    from bisector.benchmarks.machine import Description
    from bisector.benchmarks.tables import Table

PACKAGES = (
    "torch",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "perceptual-manifold-geometry",
    "lightning",
    "torchvision",
)


def add_arguments(benchmarks: Any) -> None:
    """Add the four to the benchmarks of ``bisector bench``."""
    text = "a meter that streams stored embeddings: speed, memory and errors"
    meter = benchmarks.add_parser("meter", help=text, description=text)
    meter.add_argument("--rows", type=int, default=1_000_000, help="embeddings (default: %(default)s)")
    meter.add_argument("--dim", type=int, default=256, help="their dimension (default: %(default)s)")
    meter.add_argument("--classes", type=int, default=1203, help="sized as in LVIS (default: %(default)s)")
    meter.add_argument("--memory-budget", metavar="BYTES", help="of the meter, as 2GiB (default: no limit)")
    meter.add_argument(
        "--shrinkages", default="oas,quadratic-inverse", help="commas between (default: %(default)s)"
    )
    meter.add_argument(
        "--checked", type=int, default=40, help="classes of a form to compute anew (default: %(default)s)"
    )
    meter.add_argument("--seed", type=int, default=0, help="of the embeddings (default: %(default)s)")
    meter.add_argument(
        "--folder", type=Path, help="where the table is written and kept (default: a temporary one)"
    )
    text = "amounts of many classes, beside scikit-learn and perceptual-manifold-geometry"
    amounts = benchmarks.add_parser("amounts", help=text, description=text)
    amounts.add_argument(
        "--dims", default="64,256,512,1024,2048", help="commas between (default: %(default)s)"
    )
    amounts.add_argument("--classes", type=int, default=100, help="default: %(default)s")
    amounts.add_argument("--least", type=int, default=20, help="rows of the smallest (default: %(default)s)")
    amounts.add_argument("--most", type=int, default=2000, help="rows of the largest (default: %(default)s)")
    amounts.add_argument("--repeats", type=int, default=3, help="timed rounds (default: %(default)s)")
    text = "what IGAM's guide costs a training, epoch by epoch beside AM-softmax"
    guide = benchmarks.add_parser("guide", help=text, description=text)
    guide.add_argument(
        "--data",
        help="a data set or a path (default: fashion-mnist, or digits where that is not installed)",
    )
    guide.add_argument("--head", default="igam", help="an IGAM head (default: %(default)s)")
    guide.add_argument("--embedding-dim", type=int, default=128, help="default: %(default)s")
    guide.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    guide.add_argument("--steps", type=int, help="of an epoch (default: all)")
    guide.add_argument("--repeats", type=int, default=5, help="epochs that count (default: %(default)s)")
    guide.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    detector = bench_detector.add_arguments(benchmarks)
    for parser in (meter, amounts, guide, detector):
        parser.add_argument("--threads", type=int, help="of the CPU (default: PyTorch's own choice)")
        parser.add_argument("--out", type=Path, help="folder for the tables as .md and all numbers as .json")


def run(arguments: argparse.Namespace, command: str) -> None:
    """Run one of the four and print what it found."""
    RUN[arguments.benchmark](arguments, command)


def _meter(arguments: argparse.Namespace, command: str) -> None:
    from bisector.benchmarks.long_tail import lvis_like_counts
    from bisector.statistics.shrinkage import SHRINKAGES

    require_integer("--dim", arguments.dim, least=1)
    require_integer("--checked", arguments.checked, least=1)
    budget = arguments.memory_budget
    budget = None if budget is None else size_in_bytes(budget)
    words = _words(arguments.shrinkages, "--shrinkages")
    shrinkages = [require_choice("--shrinkages", word, SHRINKAGES) for word in words]
    counts = lvis_like_counts(arguments.rows, arguments.classes)

    from bisector.benchmarks.meter import measure_meter
    from bisector.benchmarks.meter_report import meter_record, meter_tables
    from bisector.benchmarks.spectra import write_embeddings

    machine = _begin(arguments)
    kept = arguments.folder
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory(prefix="bisector-bench-") as folder:
        name = f"{arguments.rows}x{arguments.dim}x{arguments.classes}-seed{arguments.seed}.parquet"
        path = Path(folder) / name
        if not path.is_file():
            progress(f"writing {arguments.rows:,} embeddings")
            # In another process, so that what it takes is not counted here.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as writer:
                writer.submit(write_embeddings, path, counts, arguments.dim, arguments.seed).result()
        found = measure_meter(
            path, shrinkages=shrinkages, budget=budget, checked=arguments.checked, progress=progress
        )
    tables = meter_tables(found)
    for table in tables:
        _show(table)
    _keep("meter", tables, meter_record(found), machine, arguments, command)


def _amounts(arguments: argparse.Namespace, command: str) -> None:
    from dataclasses import asdict, replace

    from bisector.benchmarks.amounts import class_sizes, compare_amounts
    from bisector.benchmarks.amounts_report import amounts_note, amounts_table

    words = _words(arguments.dims, "--dims")
    dims = [require_integer("--dims", int(word) if word.isdecimal() else word, least=1) for word in words]
    counts = class_sizes(arguments.classes, arguments.least, arguments.most)
    machine = _begin(arguments)
    runs, tables = [], []
    for dim in dims:
        progress(f"p = {dim}")
        runs.append(compare_amounts(dim, counts, arguments.repeats, progress))
        tables.append(amounts_table(runs[-1]))
        _show(tables[-1])
    say(f"\n{amounts_note(arguments.repeats)}")
    tables[-1] = replace(tables[-1], notes=[amounts_note(arguments.repeats)])
    record = {"dims": [asdict(found) for found in runs]}
    _keep("amounts", tables, record, machine, arguments, command)


def _guide(arguments: argparse.Namespace, command: str) -> None:
    from bisector.data.registry import load
    from bisector.errors import ArgumentError
    from bisector.training.recipe import Recipe

    if arguments.steps is not None:
        require_integer("--steps", arguments.steps, least=1)
    recipe = Recipe(embedding_dim=arguments.embedding_dim, batch_size=arguments.batch_size)
    try:
        dataset = load(arguments.data or "fashion-mnist")
    except ArgumentError:
        if arguments.data:
            raise
        say("Fashion-MNIST is not installed here: scikit-learn's digits stand in for it.")
        dataset = load("digits")

    from bisector.benchmarks.guide import measure_guide
    from bisector.benchmarks.guide_report import guide_record, guide_table

    machine = _begin(arguments)
    found = measure_guide(
        dataset,
        recipe,
        guided=arguments.head,
        repeats=arguments.repeats,
        steps=arguments.steps,
        accelerator=arguments.device,
        progress=progress,
    )
    table = guide_table(found)
    _show(table)
    _keep("guide", [table], guide_record(found), machine, arguments, command)


def _detector(arguments: argparse.Namespace, command: str) -> None:
    machine = _begin(arguments)
    tables, record = bench_detector.measure(arguments, progress)
    for table in tables:
        _show(table)
    _keep("detector", tables, record, machine, arguments, command)


RUN: Mapping[str, Callable[[argparse.Namespace, str], None]] = {
    "meter": _meter,
    "amounts": _amounts,
    "guide": _guide,
    "detector": _detector,
}


def progress(text: str) -> None:
    """Show one passing line to whoever sits at a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _begin(arguments: argparse.Namespace) -> "Description":
    """Print the machine and return it."""
    import torch

    from bisector.benchmarks.machine import describe_machine

    machine = describe_machine(torch.device(getattr(arguments, "device", "cpu")), PACKAGES)
    say("\n".join(machine.lines()))
    return machine


def _show(table: "Table") -> None:
    progress("")
    say(f"\n{table.text()}")


def _keep(
    name: str,
    tables: "Sequence[Table]",
    record: Mapping[str, Any],
    machine: "Description",
    arguments: argparse.Namespace,
    command: str,
) -> None:
    """Write the tables where --out says."""
    from bisector.benchmarks.tables import write_found

    if arguments.out is not None:
        files = write_found(name, tables, record, machine, _without_places(command), arguments.out)
        say(f"\nWritten: {', '.join(str(file) for file in files)}")


def _without_places(command: str) -> str:
    """Return the command without its folders, which are nobody else's.

    >>> _without_places("bisector bench meter --out here --rows 9 --folder='my disk'")
    'bisector bench meter --rows 9'
    """
    kept: list[str] = []
    words = iter(shlex.split(command))
    for word in words:
        if word in {"--out", "--folder"}:
            next(words, None)
        elif not word.startswith(("--out=", "--folder=")):
            kept.append(word)
    return shlex.join(kept)


def _words(text: str, option: str) -> list[str]:
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    require(bool(words), option, repr(text), "one or more, commas between")
    return words
