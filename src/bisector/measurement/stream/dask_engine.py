"""The work of the tree on a Dask cluster: files carry the results, tasks only say that they are written."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import torch

from bisector._version import __version__
from bisector.cores import available_cores
from bisector.errors import ArgumentError, missing_extra, require
from bisector.measurement.stream.job import Job
from bisector.measurement.stream.tree import Node

_LOGGERS = ("distributed", "distributed.client")  # each has a level of its own
_WAIT = 60.0  # seconds for the first worker
_GONE = 120.0  # seconds without a worker before the work is given up
_LOOK = 5.0  # seconds between two looks, while nothing ends


def run_on_dask(
    job: Job, progress: Callable[[int], None], *, scheduler: str | None = None, workers: int | None = None
) -> None:
    """Do the work on a cluster. A worker that dies is replaced, and what it was at is done again.

    Args:
        job: to do; its folder and its data must be where the workers see them under the same path.
        progress: is told how many rows were measured since the last time.
        scheduler: address of a cluster, such as tcp://host:8786; None for one of this machine.
        workers: processes of the cluster of this machine; None for one a core.

    Raises:
        MissingExtraError: without dask and distributed.
        ArgumentError: if the cluster cannot be used, a part cannot be read, or the memory budget would be broken.
        OSError: if the scheduler goes away, no worker is there for two minutes, or a partial cannot be written.
    """
    distributed = _distributed()
    try:
        with _client(scheduler, workers) as client:
            _require_fit(client, job, scheduler)
            _work(client, job, _Told(job, progress))
    except distributed.KilledWorker as error:
        raise OSError(
            f"dask: {error.task} was given up: {error.allowed_failures + 1} workers died at it, probably for want "
            "of memory; fewer workers, or a memory budget, may do; the same command goes on where it was"
        ) from None
    except (distributed.client.FutureCancelledError, distributed.comm.CommClosedError):
        raise OSError("dask: the scheduler went away; the same command goes on where it was") from None


def _work(client: Any, job: Job, told: "_Told") -> None:
    run = uuid.uuid4().hex[:12]
    client.subscribe_topic(run, lambda event: told.rows(*event[1]))
    futures: dict[Node, Any] = {}
    # Sent once, and made again should the worker that has it die: what is scattered would be lost.
    shared = client.submit(
        _same, job, key=f"bisector-{run}-job", pure=False, priority=job.tree.root.level + 1
    )
    for node in job.tree:
        if not job.done(node):
            after = [futures[child] for child in job.tree.children(node) if child in futures]
            # Merges first, deepest in the tree first: fewer files wait.
            key = f"bisector-{run}-{node.name.removesuffix('.pt')}"
            futures[node] = client.submit(
                _task, shared, node, run, after, key=key, pure=False, priority=node.level
            )
    nodes = {future.key: node for node, future in futures.items()}
    ended: Queue[Any] = Queue()
    for future in futures.values():
        future.add_done_callback(ended.put)
    try:
        for _ in futures:
            future = _next(client, ended)
            future.result()  # raises what the task raised
            node = nodes[future.key]
            if node.level == 0:
                told.rows(node.number, job.leaves[node.number].rows)
    finally:
        with suppress(OSError):  # of a scheduler that is gone; what was wrong before is told
            client.unsubscribe_topic(run)
            client.cancel([shared, *futures.values()])


def _next(client: Any, ended: "Queue[Any]") -> Any:
    """The future that ends next.

    Raises:
        OSError: if there is no worker for a while: the scheduler would wait for one for ever.
    """
    seen = time.monotonic()
    while True:
        try:
            return ended.get(timeout=min(_LOOK, _GONE))
        except Empty:
            now = time.monotonic()
            if client.scheduler_info()["workers"]:
                seen = now
            elif now - seen >= _GONE:
                raise OSError(
                    f"dask: no worker has been there for {now - seen:.0f} seconds; the same command goes on where "
                    "it was"
                ) from None


def _same(job: Job) -> Job:
    return job


def _task(job: Job, node: Node, run: str, after: list[str]) -> str:
    """The work of a node, on a worker, when `after` is done; the name of its file."""
    worker, rows = _distributed().get_worker(), 0

    def progress(more: int) -> None:
        nonlocal rows
        rows += more
        worker.log_event(run, (node.number, rows))

    job.run(node, progress)
    return node.name


class _Told:
    """Tells of new rows only, though a leaf may be read twice and two threads bring the news."""

    def __init__(self, job: Job, progress: Callable[[int], None]) -> None:
        self._lock = threading.Lock()
        self._seen = [0] * len(job.leaves)
        self._progress = progress

    def rows(self, leaf: int, rows: int) -> None:
        """Of a leaf, since it was begun."""
        with self._lock:
            more = rows - self._seen[leaf]
            if more > 0:
                self._seen[leaf] = rows
                self._progress(more)


@contextmanager
def _client(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    # What goes wrong is told once, by us; a worker that dies and is replaced is nothing to tell.
    quiet = logging.CRITICAL
    before = {logger: logger.level for logger in map(logging.getLogger, _LOGGERS)}
    for logger in before:
        logger.setLevel(quiet)
    try:
        with _opened(scheduler, workers, quiet) as client:
            yield client
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


@contextmanager
def _opened(scheduler: str | None, workers: int | None, quiet: int) -> Iterator[Any]:
    distributed = _distributed()
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout=_WAIT / 6, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ArgumentError(
                f"scheduler: got {scheduler}, which does not answer: {error}; expected the address of a Dask "
                "scheduler, such as tcp://host:8786"
            ) from None
        with client:
            yield client
        return
    with (
        distributed.LocalCluster(
            n_workers=workers or available_cores(),
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # a partial's size is ours to bound: a limit for each worker would only kill it
            dashboard_address=None,
            silence_logs=quiet,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _require_fit(client: Any, job: Job, scheduler: str | None) -> None:
    """Raise unless there are workers, with the same versions, which see the data and the partials."""
    try:
        client.wait_for_workers(1, timeout=_WAIT)
    except TimeoutError:
        raise ArgumentError(
            f"scheduler: got {scheduler}, which has no worker; expected one at least"
        ) from None
    files = [
        (name, size) for name, size, _ in job.stored.reader.stamps if Path(name).is_file()
    ]  # not behind a URL
    token = job.folder / f".seen-{uuid.uuid4().hex}"
    token.write_text("by the client")
    try:
        found: dict[str, Any] = client.run(_problem, str(token), files, _versions())
    except ModuleNotFoundError as error:
        raise ArgumentError(
            f"scheduler: got a worker that has no {error.name}; expected bisector on every worker"
        ) from None
    finally:
        token.unlink()
    for worker, problem in found.items():
        require(
            not problem, "workers", f"{worker}, {problem}", "workers that see and have what this process does"
        )


def _problem(token: str, files: list[tuple[str, int]], versions: tuple[str, str]) -> str:
    """What keeps this worker from the work; empty if nothing does."""
    if versions != _versions():
        return "which has bisector {} and torch {}, not {} and {}".format(*_versions(), *versions)
    if not Path(token).exists():
        return (
            f"which does not see the folder of partials, {Path(token).parent.parent} (--partials DIR sets it)"
        )
    for file, size in files:
        if not Path(file).is_file() or Path(file).stat().st_size != size:
            return f"which does not see {file} as it is here"
    return ""


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise missing_extra("dask[distributed]", "measure") from None
    return distributed


def _versions() -> tuple[str, str]:
    return __version__, str(torch.__version__)
