"""Amounts of many classes: time and error of ours, of scikit-learn in a loop, of the volume paper's own package."""

import argparse
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.exact import SCIKIT_LEARN, Rows, exact_amount
from benchmarks.script import Script, listed
from benchmarks.spectra import ClassSpectra
from benchmarks.tables import Table, seconds
from bisector.benchmarks.timing import Step, interleaved
from bisector.cli.output import progress, say
from bisector.errors import require_integer
from bisector.information.amount import information_amounts

PACKAGE = "perceptual-manifold-geometry"
NONLINEAR = "quadratic-inverse"
NOTE = (
    "Medians of {repeats} rounds in turns, in one process, float32 embeddings for everybody. `× ours`: over our "
    "time for the same shrinkage. `with a number`: classes whose amount is finite; `error`: the largest relative "
    "one of those, against float64 (numpy and scikit-learn; for quadratic-inverse our own)."
)


@dataclass(frozen=True)
class Row:
    """What one way to the amounts took, and how right it is.

    Args:
        name: of it.
        shrinkage: that it computes.
        ours: whether it is bisector's.
        seconds: of each timed round; none where it could not run.
        median: of the seconds.
        faster: how many times its median is that of ours with the same shrinkage.
        finite: classes for which it gave a finite number.
        error: the largest relative error of those, or None without any.
        note: why there is no time, or "".
    """

    name: str
    shrinkage: str
    ours: bool
    seconds: list[float]
    median: float | None
    faster: float | None
    finite: int
    error: float | None
    note: str


@dataclass(frozen=True)
class AmountsRun:
    """All ways at one dimension.

    Args:
        dim: p.
        counts: instances of each class.
        largest: the largest amount without shrinkage, in bits.
        rows: one for each way.
    """

    dim: int
    counts: list[int]
    largest: float
    rows: list[Row]


@dataclass(frozen=True)
class _Way:
    name: str
    shrinkage: str
    ours: bool
    run: Callable[[], Sequence[float]]


def main(words: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    script = Script(
        "amounts", "amounts of many classes, beside scikit-learn and perceptual-manifold-geometry"
    )
    add = script.parser.add_argument
    add("--dims", default="64,256,512,1024,2048", help="commas between (default: %(default)s)")
    add("--classes", type=int, default=100, help="default: %(default)s")
    add("--least", type=int, default=20, help="rows of the smallest (default: %(default)s)")
    add("--most", type=int, default=2000, help="rows of the largest (default: %(default)s)")
    add("--repeats", type=int, default=3, help="timed rounds (default: %(default)s)")

    def measure(arguments: argparse.Namespace) -> dict[str, Any]:
        given = listed(arguments.dims, "--dims")
        dims = [require_integer("--dims", int(word) if word.isdecimal() else word, least=1) for word in given]
        counts = class_sizes(arguments.classes, arguments.least, arguments.most)
        script.begin()
        runs = []
        for dim in dims:
            progress(f"p = {dim}")
            runs.append(compare_amounts(dim, counts, arguments.repeats, progress))
            script.show(amounts_table(runs[-1]))
        note = NOTE.format(repeats=arguments.repeats)
        say(f"\n{note}")
        script.tables[-1] = replace(script.tables[-1], notes=[note])
        return {"dims": [asdict(found) for found in runs]}

    return script.main(measure, words)


def class_sizes(classes: int, least: int, most: int) -> list[int]:
    """Return sizes from `least` to `most`, evenly by their logarithm.

    >>> class_sizes(3, 20, 2000)
    [20, 200, 2000]
    """
    require_integer("least", least, least=2)
    require_integer("most", most, least=least)
    return [round(size) for size in np.geomspace(least, most, require_integer("classes", classes, least=1))]


def compare_amounts(
    dim: int,
    counts: Sequence[int],
    repeats: int = 5,
    progress: Callable[[str], None] = lambda text: None,
) -> AmountsRun:
    """Return the time that each way takes for the amounts of all classes, taking turns in this process.

    Everybody is given float32 embeddings. The others get them class by class, cut beforehand; ours gets them as
    they come, classes mixed, and sorts them within its time.

    Args:
        dim: p.
        counts: instances of each class.
        repeats: rounds that are timed.
        progress: told what is going on.
    """
    x, labels, parts = _problem(dim, counts)
    progress("exact amounts")
    exact = {
        name: np.array([exact_amount(rows, name) for rows in parts]) for name in (*SCIKIT_LEARN, NONLINEAR)
    }
    found: dict[str, Sequence[float]] = {}
    ways, missing = _ways(x, labels, parts)

    def keep(way: _Way) -> None:
        found[way.name] = way.run()

    steps = {way.name: Step(partial(keep, way)) for way in ways}
    with np.errstate(over="ignore", invalid="ignore"):
        times = interleaved(steps, repeats, torch.device("cpu"), progress)
    ours = {way.shrinkage: _median(times[way.name]) for way in ways if way.ours}
    rows = [_row(way, times[way.name], found.get(way.name, ()), exact[way.shrinkage], ours) for way in ways]
    return AmountsRun(dim, list(counts), float(np.nanmax(exact["none"])), [*rows, *missing])


def _problem(dim: int, counts: Sequence[int]) -> tuple[Tensor, Tensor, list[Rows]]:
    """Return embeddings (N, p) in a random order, their labels, and the rows of each class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(len(counts), device="cpu").repeat_interleave(torch.tensor(counts, device="cpu"))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = ClassSpectra(len(counts), dim).draw(labels, generator)
    return x, labels, [x[labels == c].numpy() for c in range(len(counts))]


def _ways(x: Tensor, labels: Tensor, parts: Sequence[Rows]) -> tuple[list[_Way], list[Row]]:
    """Return who takes part, and a row for who is not installed."""

    def ours(shrinkage: str) -> list[float]:
        amounts: list[float] = information_amounts(x, labels, len(parts), shrinkage=shrinkage).tolist()
        return amounts

    def theirs(amount: Callable[[Rows], float]) -> list[float]:
        return [amount(rows) for rows in parts]

    ways = []
    for shrinkage, amount in SCIKIT_LEARN.items():
        ways.append(_Way(f"bisector, {shrinkage}", shrinkage, True, partial(ours, shrinkage)))
        ways.append(_Way(f"scikit-learn, {shrinkage}", shrinkage, False, partial(theirs, amount)))
    ways.append(_Way(f"bisector, {NONLINEAR}", NONLINEAR, True, partial(ours, NONLINEAR)))
    volume = volume_of_package()
    if volume is None:
        note = f"{PACKAGE} is not installed"
        return ways, [Row(f"{PACKAGE}, none", "none", False, [], None, None, 0, None, note)]
    # It returns the volume and the volume over the number of rows.
    ways.insert(
        2, _Way(f"{PACKAGE}, none", "none", False, lambda: [float(volume(rows)[0]) for rows in parts])
    )
    return ways, []


def volume_of_package() -> Callable[[Rows], Any] | None:
    """Return the volume of the PyPI package perceptual-manifold-geometry, or None where it is not installed.

    The one file that defines it is loaded, not the package, which imports libraries of topology and plotting.
    """
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        return None
    spec = importlib.util.spec_from_file_location("density", Path(package.origin).with_name("density.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    volume: Callable[[Rows], Any] = module.calculate_volume
    return volume


def _row(
    way: _Way,
    times: list[float] | Exception,
    found: Sequence[float],
    exact: Rows,
    ours: dict[str, float | None],
) -> Row:
    taken = _median(times)
    mine = ours[way.shrinkage]
    errors = [
        abs(got - true) / abs(true)
        for got, true in zip(found, exact.tolist(), strict=False)
        if math.isfinite(got)
    ]
    return Row(
        name=way.name,
        shrinkage=way.shrinkage,
        ours=way.ours,
        seconds=[] if isinstance(times, Exception) else times,
        median=taken,
        faster=taken / mine if taken and mine and not way.ours else None,
        finite=len(errors),
        error=max(errors, default=None),
        note=str(times).partition("\n")[0] if isinstance(times, Exception) else "",
    )


def _median(times: list[float] | Exception) -> float | None:
    return median(times) if isinstance(times, list) and times else None


def amounts_table(run: AmountsRun) -> Table:
    """Return the ways at one dimension."""
    classes, rows = len(run.counts), sum(run.counts)
    sizes = f"{min(run.counts):,} to {max(run.counts):,}"
    title = f"p = {run.dim:,}: {classes} classes of {sizes} rows, {rows:,} in all"
    headings = ["", "seconds", "min … max", "× ours", "with a number", "error"]
    return Table(title, headings, [_cells(row, classes) for row in run.rows])


def _cells(row: Row, classes: int) -> list[str]:
    if row.median is None:
        return [f"{row.name}: {row.note}", *["–"] * 5]
    return [
        row.name,
        seconds(row.median),
        f"{seconds(min(row.seconds))} … {seconds(max(row.seconds))}",
        "–" if row.faster is None else f"{row.faster:.1f}",
        f"{row.finite} of {classes}",
        "–" if row.error is None else f"{row.error:.1e}",
    ]


if __name__ == "__main__":
    sys.exit(main())
