"""Time and memory of every loss beside the bare matrix products, at one size."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from bisector.benchmarks.contenders import KEPT, PRODUCTS, PRODUCTS32, Contender, Kind
from bisector.benchmarks.memory import binary, free_bytes, peak_extra_bytes
from bisector.benchmarks.problem import Precision, Problem, Size
from bisector.benchmarks.timing import Step, interleaved
from bisector.engine.budget import release_workspace
from bisector.errors import ArgumentError, require

PROBE = 512  # classes of the smaller of the two computations that foretell a larger one
SAFE = 0.9  # share of the free memory that may be filled
METRIC_LEARNING = "pytorch-metric-learning"
MANY = 32  # no contender holds so many (N, C) matrices


@dataclass(frozen=True)
class Row:
    """What one contender took."""

    name: str  # of the contender
    kind: Kind  # of the contender
    seconds: list[float]  # of each timed forward and backward pass; none where it could not run
    median: float | None  # of the seconds
    times_products: float | None  # median over that of the three matrix products
    times_kept: float | None  # median over that of the products into kept buffers
    times_float32: float | None  # median over that of the products in float32, where the precision is another
    # the smaller of pytorch-metric-learning's medians over this one
    faster_than_metric_learning: float | None
    extra_bytes: int | None  # peak memory above the inputs, gradients included
    # of the extra bytes of pytorch-metric-learning's loss that takes less
    share_of_metric_learning: float | None
    share_beyond: float | None  # the same of the bytes beyond the gradients, which everybody has
    loss: float | None  # the value, to see that equal formulas are timed; None for products
    note: str  # why there is no time, or ""


@dataclass(frozen=True)
class Comparison:
    """All contenders at one size."""

    n: int  # rows
    d: int  # dimensions
    c: int  # classes
    rows: list[Row]  # one for each contender, in their order


class _First(NamedTuple):
    """The first call of a contender: its step, memory and value, or why there is none."""

    step: Step | None = None
    extra_bytes: int | None = None
    loss: float | None = None
    note: str = ""


def compare_losses(
    size: Size,
    contenders: Sequence[Contender],
    precision: Precision = "float32",
    device: torch.device | str = "cpu",
    repeats: int = 7,
    progress: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Return time and memory of forward and backward of every contender, taking turns in this process.

    Memory is that of the first call, before the rounds that are timed. One that fails, or that would not fit, has
    a note instead of times.

    Args:
        size: of the problem.
        contenders: who takes part.
        precision: of the matrix products.
        device: where.
        repeats: rounds that are timed.
        progress: told what is going on; a large size takes minutes.
    """
    device = torch.device(device)
    require_room(size, 8 * size.d * (size.c + size.n), device)  # with their gradients
    problem = Problem(size, precision, device)
    firsts: dict[str, _First] = {}
    for contender in contenders:
        progress(f"memory of {contender.name}")
        firsts[contender.name] = _first(contender, problem)
    steps = {name: first.step for name, first in firsts.items() if first.step is not None}
    seconds: dict[str, list[float]] = {}
    for name, found in interleaved(steps, repeats, device, progress).items():
        if isinstance(found, Exception):
            firsts[name] = firsts[name]._replace(note=_reason(found))
        else:
            seconds[name] = found
    return Comparison(
        size.n, size.d, size.c, _rows(contenders, firsts, seconds, 4 * size.d * (size.n + size.c))
    )


def require_room(size: Size, needed: int, device: torch.device) -> None:
    """Raise `ArgumentError` where not even what everybody needs fits; a CPU's system would kill the process."""
    free = free_bytes(device) if device.type == "cpu" else None
    fits = free is None or needed <= SAFE * free
    got = f"{size}, which needs at least {binary(needed)}, {binary(free or 0)} are free"
    require(fits, "size", got, "fewer classes, rows or dimensions")


def too_large(contender: Contender, problem: Problem) -> str:
    """Return why a contender would run out of memory, or "" where it would not, so far as can be told.

    On a GPU running out is an error like any other. A CPU's system kills the process instead, so the need is
    told beforehand: a loss that makes (N, C) matrices takes bytes that grow with C in a straight line.
    """
    size, device = problem.size, problem.device
    free = free_bytes(device) if device.type == "cpu" else None
    if free is None or not contender.whole or 4 * size.c * (MANY * size.n + 8 * size.d) < free:
        return ""
    needed = foretold_bytes(contender, size, problem.precision)
    return f"needs about {binary(needed)}, {binary(free)} are free" if needed > SAFE * free else ""


def foretold_bytes(contender: Contender, size: Size, precision: Precision) -> int:
    """Return the bytes that a contender with (N, C) matrices will take, what it prepares included."""

    def taken(classes: int) -> int:
        small = Problem(Size(size.n, size.d, classes), precision, torch.device("cpu"))
        return peak_extra_bytes(lambda: contender.prepare(small).run())

    low, high = taken(PROBE), taken(2 * PROBE)
    return high + (high - low) * (size.c - 2 * PROBE) // PROBE


def _first(contender: Contender, problem: Problem) -> _First:
    """Run a contender once under the eyes of the allocator."""
    values: list[object] = []
    try:
        note = too_large(contender, problem)
        if note:
            return _First(note=note)
        step = contender.prepare(problem)
        release_workspace()
        gc.collect()
        extra_bytes = peak_extra_bytes(lambda: values.append(step.run()), problem.device)
        value = values.pop()
        loss = float(value) if isinstance(value, Tensor) else None
        step.clear()
    except (RuntimeError, ImportError, ArgumentError) as error:
        note = _reason(error)
    else:
        return _First(step, extra_bytes, loss)
    _let_go(problem)
    return _First(note=note)


def _let_go(problem: Problem) -> None:
    """Free what a failure left behind."""
    problem.embeddings.grad = problem.weight.grad = None
    if "transposed" in vars(problem):
        problem.transposed.grad = None
    gc.collect()
    if problem.device.type == "cuda":
        torch.cuda.empty_cache()


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "a package").partition(".")[0]
        return f"{package.replace('_', '-')} is not installed"
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in text:
        return "out of memory"
    line = next(iter(text.strip().splitlines()), "")
    return f"{type(error).__name__}: {line}"[:200]


def _rows(
    contenders: Sequence[Contender],
    firsts: dict[str, _First],
    seconds: dict[str, list[float]],
    gradients: int,
) -> list[Row]:
    medians = {name: median(taken) for name, taken in seconds.items()}
    rivals = [contender.name for contender in contenders if METRIC_LEARNING in contender.name]
    fastest = min((medians[name] for name in rivals if name in medians), default=None)
    leanest = [taken for name in rivals if (taken := firsts[name].extra_bytes) is not None]
    smallest = min(leanest, default=None)

    def row(contender: Contender) -> Row:
        name, first, taken = contender.name, firsts[contender.name], medians.get(contender.name)
        return Row(
            name=name,
            kind=contender.kind,
            seconds=seconds.get(name, []),
            median=taken,
            times_products=_ratio(taken, medians.get(PRODUCTS)),
            times_kept=_ratio(taken, medians.get(KEPT)),
            times_float32=_ratio(taken, medians.get(PRODUCTS32)),
            faster_than_metric_learning=_ratio(fastest, taken),
            extra_bytes=first.extra_bytes,
            share_of_metric_learning=_ratio(first.extra_bytes, smallest),
            share_beyond=_ratio(_less(first.extra_bytes, gradients), _less(smallest, gradients)),
            loss=first.loss,
            note=first.note,
        )

    return [row(contender) for contender in contenders]


def _less(whole: int | None, part: int) -> int | None:
    return None if whole is None else max(0, whole - part)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
