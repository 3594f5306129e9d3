"""How fast rows are scored by class geometry, beside the matrix products that it cannot do without."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.long_tail import lvis_like_counts
from benchmarks.script import Script
from benchmarks.tables import Table, seconds
from bisector.errors import require_integer
from bisector.information.geometry import ClassGeometry
from bisector.information.meter import InformationMeter
from bisector.information.rows import places_by_class

_AT_ONCE = 65_536


def drawn(counts: Tensor, dim: int) -> ClassGeometry:
    """Return the geometry of classes of these sizes, each with a mean and a width of its own."""
    draw = torch.Generator().manual_seed(0)
    meter = InformationMeter(len(counts), dim)
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
    means = torch.randn(len(counts), dim, generator=draw)
    for rows in labels[torch.randperm(len(labels), generator=draw)].split(_AT_ONCE):
        width = 0.5 + rows[:, None].float() / len(counts)
        meter.update(means[rows] + width * torch.randn(len(rows), dim, generator=draw), rows)
    return ClassGeometry.from_meter(meter)


def products(geometry: ClassGeometry, rows: Tensor, classes: Tensor) -> Callable[[], None]:
    """Return the products alone: rows whitened once, then those of each class with its factor."""
    factors = [geometry._factor(c) for c in range(geometry.num_classes)]
    groups = [(factors[c].matrix, len(places)) for c, places in places_by_class(classes.flatten())]
    wide = torch.empty(max(n for _, n in groups), geometry.dim, dtype=torch.float64)

    def run() -> None:
        for matrix, n in groups:
            if matrix is not None:
                wide[:n] @ matrix

    return run


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(script: Script, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Score rows, and do their products, by turns."""
    for name in ("rows", "classes", "dim", "top_k", "train_rows"):
        require_integer(f"--{name.replace('_', '-')}", getattr(arguments, name), least=1)
    script.begin()
    counts = lvis_like_counts(arguments.train_rows, arguments.classes)
    started = time.perf_counter()
    geometry = drawn(counts, arguments.dim)
    geometry.evidence(torch.zeros(1, arguments.dim))
    made = time.perf_counter() - started
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(arguments.rows, arguments.dim, generator=draw)
    classes = torch.randint(arguments.classes, (arguments.rows, arguments.top_k), generator=draw)
    alone = products(geometry, rows, classes)
    times: dict[str, list[float]] = {"scored": [], "products": []}
    for _ in range(arguments.repeats):
        times["scored"].append(timed(lambda: geometry.evidence(rows, classes)))
        times["products"].append(timed(alone))
    scored, bare = (median(found) for found in times.values())
    factors = sum(factor.nbytes for factor in geometry._kept.values())
    table = Table(
        f"{arguments.classes:,} classes, D = {arguments.dim:,}, k = {arguments.top_k}, {arguments.rows:,} rows",
        ["", "measured"],
        [
            ["geometry of " + f"{arguments.train_rows:,} rows, factors made, s", seconds(made)],
            ["factors, MiB", f"{factors / 2**20:,.0f}"],
            ["rows scored a second", f"{arguments.rows / scored:,.0f}"],
            ["share of the time that the products alone take", f"{bare / scored:.0%}"],
        ],
    )
    script.show(table)
    return {"seconds_made": made, "factor_bytes": factors, "times": times}


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    script = Script("geometry_speed", __doc__ or "")
    script.parser.add_argument("--classes", type=int, default=1203)
    script.parser.add_argument("--dim", type=int, default=1024)
    script.parser.add_argument("--top-k", type=int, default=20)
    script.parser.add_argument("--rows", type=int, default=4096)
    script.parser.add_argument("--train-rows", type=int, default=200_000)
    script.parser.add_argument("--repeats", type=int, default=3)
    return script.main(lambda arguments: measure(script, arguments), words)


if __name__ == "__main__":
    raise SystemExit(main())
