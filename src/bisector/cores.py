"""How many cores this process may use."""

import os

from bisector.errors import require_integer

MOST_TASKS, MOST_DEVICES = 256, 16


def available_cores() -> int:
    """Return the number of cores this process may run on; all, where the system does not tell.

    >>> available_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_tasks(name: str, got: object, *, least: int = 1) -> int:
    """Return a number of threads or of light processes, if it is one that a machine can start.

    PyTorch ends in a segmentation fault where it is asked for more threads than there can be.

    Raises:
        ArgumentError: it is not an integer of at least `least` and of at most 256, or four for each core.
    """
    return require_integer(name, got, least=least, most=max(MOST_TASKS, 4 * available_cores()))


def require_devices(name: str, got: object) -> int:
    """Return a number of processes that each hold a model, if it is one that a machine may have room for.

    Raises:
        ArgumentError: it is not an integer of at least 1 and of at most 16, or one for each core.
    """
    return require_integer(name, got, least=1, most=max(MOST_DEVICES, available_cores()))
