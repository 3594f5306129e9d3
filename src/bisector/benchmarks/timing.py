"""Seconds of several computations that take turns, so that a slow minute of the machine slows them all."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bisector.cores import require_tasks


@dataclass
class Step:
    """One forward and backward pass."""

    run: Callable[[], Any]  # does it; what it returns is dropped
    # their gradients are let go afterwards, outside the time
    leaves: list[Tensor] = field(default_factory=list)

    def clear(self) -> None:
        """Let the gradients go."""
        for leaf in self.leaves:
            leaf.grad = None


def interleaved(
    steps: Mapping[str, Step],
    repeats: int,
    device: torch.device,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, list[float] | Exception]:
    """Return the seconds of `repeats` calls of every step, or the error that ended it.

    One round calls each once, in an order drawn anew, so that none has the same predecessor always; a round
    before the first warms up and is not counted.
    """
    found: dict[str, list[float] | Exception] = {name: [] for name in steps}
    draw = random.Random(0)
    for turn in range(repeats + 1):
        progress(f"round {turn} of {repeats}")
        for name in draw.sample(list(steps), len(steps)):
            seconds = found[name]
            if isinstance(seconds, Exception):
                continue
            try:
                taken = _seconds(steps[name], device)
            except RuntimeError as error:  # out of memory is one of these
                found[name] = error.with_traceback(None)  # the traceback would keep its matrices alive
                continue
            finally:
                steps[name].clear()
            if turn > 0:
                seconds.append(taken)
    return found


def _seconds(step: Step, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    step.run()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads on the CPU; as many as before, if None."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else require_tasks("--threads", count))
    try:
        yield
    finally:
        torch.set_num_threads(before)
