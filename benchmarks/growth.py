"""How much memory a process takes more than before, as the system counts it."""

from collections.abc import Callable
from pathlib import Path

from bisector.cores import bytes_in, process_peak_bytes


def growth() -> Callable[[], int | None]:
    """Begin to count; return a function that tells by how many bytes the process has grown at most since then.

    The function returns None where the system does not tell.
    """
    before = process_bytes()
    able = forget_process_peak()

    def grown() -> int | None:
        peak = process_peak_bytes()
        return max(0, peak - before) if able and before is not None and peak is not None else None

    return grown


def process_bytes() -> int | None:
    """Return the memory that this process has now, libraries included, or None if it is not told."""
    return bytes_in(Path("/proc/self/status"), "VmRSS")


def forget_process_peak() -> bool:
    """Let `process_peak_bytes` count from now on; say whether the system could."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
