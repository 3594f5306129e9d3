"""Cells in parallel processes, which leave when the one that started them does."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, TypeAlias

import torch

from bisector.cores import available_cores
from bisector.errors import ArgumentError
from bisector.training.cells import Cell
from bisector.training.parents import leave_with
from bisector.training.recipe import Machine

AnyCell: TypeAlias = Cell[Any, Any]
Progress = Callable[[str, int], None]
"""``(what is being trained, epochs done since the last call)``."""


@dataclass(frozen=True)
class Order:
    """How cells are to be trained."""

    cells: Path | None  # the folder of theirs, or None to keep nothing
    machine: Machine  # with which means
    keep: bool = False  # whether checkpoints stay


def default_jobs(machine: Machine) -> int:
    """Return how many trainings fit this machine at a time: one a GPU, or as the threads fill the cores."""
    if machine.accelerator != "cpu" and torch.cuda.is_available():
        return max(1, torch.cuda.device_count())
    return max(1, available_cores() // machine.threads)


def run_cells(cells: Sequence[AnyCell], order: Order, jobs: int, progress: Progress) -> list[Any]:
    """Return the results of the cells in their order; those that are done already are not trained again.

    Raises:
        ArgumentError: as `train_cells`.
    """
    results = {cell: done for cell in cells if (done := cell.done(order.cells, keep=order.keep)) is not None}
    for cell in results:
        progress(f"{cell.head}, seed {cell.seed}", cell.epochs)
    results.update(train_cells([cell for cell in cells if cell not in results], order, jobs, progress))
    return [results[cell] for cell in cells]


def train_cells(
    cells: Sequence[AnyCell], order: Order, jobs: int, progress: Progress
) -> Iterator[tuple[AnyCell, Any]]:
    """Train the cells, so many at a time, and return them as they are done.

    Raises:
        ArgumentError: a process was killed, as the system does when memory runs out; what was done by then is kept.
    """
    if jobs == 1 or len(cells) < 2:
        for cell in cells:
            yield cell, _train(cell, order, progress)
        return
    context = multiprocessing.get_context("spawn")
    reports: Queue[tuple[str, int] | None] = context.Queue()
    stop = context.Event()
    teller = threading.Thread(target=_tell, args=(reports, progress), daemon=True)
    teller.start()
    pool = ProcessPoolExecutor(
        min(jobs, len(cells)),
        mp_context=context,
        initializer=_begin,
        initargs=(os.getpid(), stop, reports, context.Value("i", 0)),
    )
    try:
        with _without_interrupts():  # which the workers inherit when they are started, with the first cell
            waiting = {pool.submit(_train_here, cell, order): cell for cell in cells}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BaseException as error:
        stop.set()
        if not isinstance(error, BrokenProcessPool):
            raise
        raise ArgumentError(
            "jobs: a process was killed, perhaps for want of memory; what is done is kept: run the same command "
            "again with fewer --jobs"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        reports.put(None)
        teller.join()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _train(cell: AnyCell, order: Order, progress: Progress) -> Any:
    what = f"{cell.head}, seed {cell.seed}"
    return cell.train(order.cells, order.machine, lambda epochs: progress(what, epochs), keep=order.keep)


_reports: "Queue[tuple[str, int] | None]"  # of this process, in a worker


def _train_here(cell: AnyCell, order: Order) -> Any:
    return _train(cell, order, lambda what, epochs: _reports.put((what, epochs)))


def _begin(parent: int, stop: Event, reports: "Queue[tuple[str, int] | None]", started: Any) -> None:
    """Set a worker up: interrupts are the parent's, and so is its life."""
    global _reports  # noqa: PLW0603 (what the pool offers for a process to know)
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    visible = torch.cuda.device_count()
    if visible > 1:  # a GPU of its own
        listed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        devices = listed if len(listed) == visible else [str(device) for device in range(visible)]
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number % visible]
    leave_with(parent, stop)


def _tell(reports: "Queue[tuple[str, int] | None]", progress: Progress) -> None:
    while (report := reports.get()) is not None:
        progress(*report)
