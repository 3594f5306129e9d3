"""Learning rates as functions of the step alone, so that a resumed training continues them exactly."""

import math
from collections.abc import Callable
from functools import partial

Schedule = Callable[[int], float]
"""Step, from 0, to the factor of the highest learning rate."""


def schedule(name: str, steps: int) -> Schedule:
    """Return the factor of the highest learning rate for every step of a training of `steps` steps.

    - `"one-cycle"`: from 1/25 up to 1 in the first 30%, then down to 1/250,000, both along half a cosine
      (Smith and Topin 2018, in the two-phase form that PyTorch's OneCycleLR has).
    - `"cosine"`: linearly up in the first 5%, then half a cosine down to 0.
    - `"constant"`: 1.

    >>> [round(schedule("one-cycle", 10)(step), 3) for step in (0, 2, 9)]
    [0.04, 1.0, 0.0]
    """
    known: dict[str, Schedule] = {
        "one-cycle": partial(_one_cycle, steps=steps),
        "cosine": partial(_cosine, steps=steps),
        "constant": _constant,
    }
    return known[name]


def _one_cycle(step: int, *, steps: int) -> float:
    top = max(0.3 * steps - 1, 1e-9)
    last = max(steps - 1, 1)
    if step <= top:
        return _half_cosine(1 / 25, 1, step / top)
    return _half_cosine(1, 1 / 250_000, min((step - top) / max(last - top, 1e-9), 1))


def _cosine(step: int, *, steps: int) -> float:
    warm = max(1, round(0.05 * steps))
    if step < warm:
        return (step + 1) / warm
    return _half_cosine(1, 0, min((step - warm) / max(steps - warm, 1), 1))


def _constant(step: int) -> float:
    return 1.0


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
