"""Whether bfloat16 is fast on this processor, or only emulated."""

import time

import torch

from bisector.training.recipe import Machine

SLOW = 1.2
"""Times as long as in float32, from which bfloat16 is said to be slow: below it is noise."""

_SIDE, _REPEATS = 256, 3


def on_cpu(machine: Machine) -> bool:
    """Whether a training computes on the CPU."""
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return machine.accelerator == "cpu" or (machine.accelerator == "auto" and not accelerated)


def bf16_slowdown() -> float:
    """How many times as long as in float32 the CPU takes for a product of matrices in bfloat16.

    Measured, in a tenth of a second at most: what PyTorch tells of a processor (`mkldnn._is_mkldnn_bf16_supported`)
    is private, and true of those with AVX-512 that have no instructions for it.
    """
    return _seconds(torch.bfloat16) / _seconds(torch.float32)


def slow_precision(machine: Machine) -> str:
    """Return a line that warns of bfloat16 where it costs more time than float32; else nothing."""
    if not str(machine.precision).startswith("bf16") or not on_cpu(machine):
        return ""
    times = bf16_slowdown()
    told = f"this processor has no fast bfloat16: products of matrices take {times:.2g} times as long as in float32"
    return f"precision {machine.precision}: {told}; 32-true is faster" if times > SLOW else ""


def _seconds(dtype: torch.dtype) -> float:
    """The least time of a product: other programs only make it longer."""
    factor = torch.ones(_SIDE, _SIDE, dtype=dtype)
    taken = []
    for _ in range(_REPEATS + 1):
        begun = time.perf_counter()
        factor @ factor
        taken.append(time.perf_counter() - begun)
    return min(taken[1:])  # the first one makes things ready
