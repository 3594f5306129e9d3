"""A meter that streams stored embeddings: its speed, its memory, and how right its amounts are."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from math import isnan, nan
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.long_tail import lvis_like_counts
from benchmarks.meter_check import ROUNDING, Check
from benchmarks.meter_run import QUEUE, Computed, MeterRun, measure_meter
from benchmarks.script import Script, listed
from benchmarks.spectra import write_embeddings
from benchmarks.tables import Table, seconds
from bisector.benchmarks.memory import binary
from bisector.cli.measure import size_in_bytes
from bisector.cli.output import progress
from bisector.errors import require_choice, require_integer
from bisector.statistics.shrinkage import SHRINKAGES


def main(words: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    script = Script("meter", "a meter that streams stored embeddings: speed, memory and errors")
    add = script.parser.add_argument
    add("--rows", type=int, default=1_000_000, help="embeddings (default: %(default)s)")
    add("--dim", type=int, default=256, help="their dimension (default: %(default)s)")
    add("--classes", type=int, default=1203, help="sized as in LVIS (default: %(default)s)")
    add("--memory-budget", metavar="BYTES", help="of the meter, as 2GiB (default: no limit)")
    add("--shrinkages", default="oas,quadratic-inverse", help="commas between (default: %(default)s)")
    add("--checked", type=int, default=40, help="classes of a form to compute anew (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the embeddings (default: %(default)s)")
    add("--folder", type=Path, help="where the table is written and kept (default: a temporary one)")

    def measure(arguments: argparse.Namespace) -> dict[str, Any]:
        require_integer("--dim", arguments.dim, least=1)
        require_integer("--checked", arguments.checked, least=1)
        budget = None if arguments.memory_budget is None else size_in_bytes(arguments.memory_budget)
        names = listed(arguments.shrinkages, "--shrinkages")
        shrinkages = [require_choice("--shrinkages", name, SHRINKAGES) for name in names]
        counts = lvis_like_counts(arguments.rows, arguments.classes)
        script.begin()
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
        for table in meter_tables(found):
            script.show(table)
        return meter_record(found)

    return script.main(measure, words)


def meter_tables(run: MeterRun) -> list[Table]:
    """Return the speed, the memory, and how right the amounts are."""
    return [_speed(run), _memory(run), *([_forms(run)] if run.readings else []), _errors(run)]


def meter_record(run: MeterRun) -> dict[str, Any]:
    """Return everything as builtins, for JSON."""
    readings = [
        {
            "shrinkage": reading.shrinkage,
            "seconds": reading.seconds,
            "rank_seconds": reading.rank_seconds,
            "forms": forms_of(run, reading),
            "largest_bound": _largest(reading.information.error_bound.tolist()),
            "largest_estimate": _largest(reading.information.error_estimate.tolist()),
            "checks": [{**asdict(check), "error": check.error} for check in reading.checks],
        }
        for reading in run.readings
    ]
    plain = {name: value for name, value in vars(run).items() if name != "readings"}
    return {**plain, "rate": run.rate, "share": run.share, "need": run.need._asdict(), "readings": readings}


def forms_of(run: MeterRun, reading: Computed) -> dict[str, int]:
    """Return how many classes were held in which form."""
    return dict(Counter(form for form in reading.information.form if form is not None))


def _speed(run: MeterRun) -> Table:
    def row(name: str, taken: float, share: float | None = None) -> list[str]:
        return [name, seconds(taken), f"{run.rows / taken:,.0f}", "–" if share is None else f"{share:.1%}"]

    rows = [
        row("update alone", run.update_seconds, run.share),
        row("reading and decoding Parquet", run.read_seconds),
        row("both, one after the other", run.update_seconds + run.read_seconds),
        *(
            row(f"compute, {reading.shrinkage}{what}", taken)
            for reading in run.readings
            for what, taken in (
                ("", reading.seconds),
                (", the effective ranks besides", reading.rank_seconds),
            )
        ),
    ]
    title = f"{run.rows:,} embeddings of {run.dim:,} dimensions, {run.classes:,} classes"
    if run.budget is not None:
        title += f", budget {binary(run.budget)}"
    note = (
        f"The product: a plain float32 one between the parts, {run.product_rate / 1e9:,.1f} billion multiply-adds "
        f"a second (median); an instance counts as p² = {run.dim**2:,}."
    )
    return Table(title, ["", "seconds", "instances/s", "of the product"], rows, [note])


def _memory(run: MeterRun) -> Table:
    need = run.need
    sizes: list[tuple[str, int | None]] = [
        ("all embeddings, float32", need.all_embeddings),
        (
            f"local covariances of every flush (the seed's scheme), queue {run.queue:,}",
            need.local_covariances,
        ),
        (f"running merge, a full float32 matrix a class, queue {QUEUE:,}", need.running_merge),
        ("this meter: its tensors", run.held_bytes),
        ("this meter: growth of the process while streaming, decoding included", run.stream_bytes),
        ("this meter: the same with compute", run.compute_bytes),
    ]
    rows = [
        [
            name,
            "–" if size is None else binary(size),
            "–" if size is None else f"{size / need.all_embeddings:.2f}",
        ]
        for name, size in sizes
    ]
    return Table("Memory", ["", "peak", "of all embeddings"], rows)


def _forms(run: MeterRun) -> Table:
    first = run.readings[0]
    rows = []
    for form, classes in forms_of(run, first).items():
        here = torch.tensor([name == form for name in first.information.form], device="cpu")
        counts = first.information.count[here]
        rows.append(
            [form, f"{classes:,}", f"{counts.min():,.0f} … {counts.max():,.0f}", f"{counts.sum():,.0f}"]
        )
    return Table("Forms", ["", "classes", "of so many instances", "instances"], rows)


def _errors(run: MeterRun) -> Table:
    rows = []
    for reading in run.readings:
        for form in dict.fromkeys(check.form for check in reading.checks):
            checks = [check for check in reading.checks if check.form == form]
            rows.append(
                [f"{reading.shrinkage}, {form}", f"{len(checks)}", *_cells(checks), *_stated(reading, form)]
            )
    headings = [
        "",
        "checked",
        "error, bits",
        "relative",
        "error / stated",
        "within",
        "stated for any",
        "as a",
    ]
    notes = [
        "Errors are the largest of the checked classes, against float64 from the rows themselves. The meter states "
        "a bound, or an estimate; `error / stated` is the median; `within` allows for a rounding of "
        f"{ROUNDING:g} of the amount; the last is the largest of all classes of the form."
    ]
    return Table("Errors", headings, rows, notes)


def _cells(checks: list[Check]) -> list[str]:
    ratios = [check.error / check.stated for check in checks if check.stated > 0]
    return [
        _number(_largest(check.error for check in checks)),
        _number(_largest(check.relative for check in checks)),
        f"{median(ratios):.2f}" if ratios else "–",
        f"{sum(check.held for check in checks)} of {len(checks)}",
    ]


def _stated(reading: Computed, form: str) -> list[str]:
    own = [number for number, name in enumerate(reading.information.form) if name == form]
    bound = _largest(reading.information.error_bound[own].tolist())
    estimate = _largest(reading.information.error_estimate[own].tolist())
    return [_number(estimate), "estimate"] if isnan(bound) else [_number(bound), "bound"]


def _largest(values: Iterable[float]) -> float:
    return max((value for value in values if not isnan(value)), default=nan)


def _number(value: float) -> str:
    return "–" if isnan(value) else "0" if value == 0 else f"{value:.2g}"


if __name__ == "__main__":
    sys.exit(main())
