"""Processes that end with the one that started them, however it ended."""

import os
import threading
import time
from functools import cache
from multiprocessing.synchronize import Event

_LAUNCHER = "BISECTOR_LAUNCHER"  # number of the process whose Trainer started this one
_launcher = os.environ.get(
    _LAUNCHER
)  # as it was when this process began: it sets its own for those that it starts


def leave_with(parent: int, stop: Event | None = None) -> None:
    """End this process as soon as its parent is gone or `stop` is set, whatever it is doing then."""
    threading.Thread(target=_watch, args=(parent, stop), daemon=True).start()


@cache
def leave_with_launcher() -> None:
    """End this process with the one whose Trainer started it; let those that this one's Trainer starts do so too.

    Lightning starts the other processes of a training with the same command, torchrun all of them. A second call
    does nothing more.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        leave_with(os.getppid())
    elif int(os.environ.get("LOCAL_RANK", "0")):
        if _launcher is not None:
            leave_with(int(_launcher))
    else:
        os.environ[_LAUNCHER] = str(os.getpid())


def _watch(parent: int, stop: Event | None) -> None:
    while os.getppid() == parent and not (stop is not None and stop.is_set()):
        time.sleep(0.2)
    os._exit(1)
