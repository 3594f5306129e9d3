"""Work on one thread: a product on several may add its terms in another order, and give other bits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_held = {"by": 0, "before": 1}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one thread in here; on as many as before when the last that is in here has left.

    A Dask worker may run several tasks at once, each on a thread of its own.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    with _lock:
        if _held["by"] == 0:
            _held["before"] = torch.get_num_threads()
        _held["by"] += 1
        torch.set_num_threads(1)  # by everyone: the number is in part a matter of the calling thread
    try:
        yield
    finally:
        with _lock:
            _held["by"] -= 1
            if _held["by"] == 0:
                torch.set_num_threads(_held["before"])
