"""How many cores this process may use, and how much memory it has used."""

import os
import sys
from pathlib import Path

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


def process_peak_bytes() -> int | None:
    """Return the most memory that this process has had so far, libraries included; None where it is not told."""
    told = bytes_in(Path("/proc/self/status"), "VmHWM")
    if told is not None:  # Linux's ru_maxrss knows the parent's peak too
        return told
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def bytes_in(file: Path, name: str) -> int | None:
    """Return the bytes in a line such as ``MemTotal:   24 kB`` of a file of the system, or None without it."""
    if not file.exists():
        return None
    lines = (line.split() for line in file.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words and words[0] == f"{name}:"), None)
