"""Who does the work of the tree: this process, or the workers of a Dask cluster."""

from collections.abc import Callable

from bisector.measurement.stream.job import Job

ENGINES = ("stream", "dask")

Progress = Callable[[int], None]


def run_here(job: Job, progress: Progress) -> None:
    """Do all the work in this process, one node after another.

    Args:
        job: to do.
        progress: is told how many rows were measured since the last time.

    Raises:
        ArgumentError: if a part cannot be read, or the memory budget would be broken.
        OSError: if a partial cannot be written.
    """
    for node in job.tree:
        job.run(node, progress)
