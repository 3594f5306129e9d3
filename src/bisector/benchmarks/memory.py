"""How much memory a computation takes on top of what was there: counted by allocation, not sampled."""

import os
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from bisector.cores import bytes_in


def peak_extra_bytes(step: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the largest number of bytes that tensors held during `step`, above what they held before it.

    On the CPU every allocation and release of PyTorch's allocator is recorded, temporaries inside operations and
    autograd functions included; what libraries below PyTorch take for themselves (packing buffers of the matrix
    product) is not seen. On CUDA it is what the caching allocator counts. Whatever `step` returns counts until it
    ends. A buffer that is kept between calls counts in the call that makes it: measure the first call. On the CPU,
    what `step` lets go of that was there before makes no room: clear old gradients beforehand.

    Args:
        step: called once, without arguments.
        device: where it computes.

    >>> x = torch.ones(1000)
    >>> peak_extra_bytes(lambda: (x + x).exp_())  # one copy of a thousand float32
    4000
    """
    if torch.device(device).type == "cuda":
        return _peak_on_cuda(step, torch.device(device))
    # The profiler's library tells on stderr that it starts, and that there is no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=False) as profiled:
        step()
    results = profiled.profiler.kineto_results if profiled.profiler else None
    assert results is not None  # it has run
    taken: list[tuple[int, int]] = [  # when, and how many bytes; fewer than 0 where they are given back
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == "[memory]" and event.device_type().name == "CPU"
    ]
    taken.sort(key=lambda moment: moment[0])
    return max(accumulate((size for _, size in taken), initial=0))


def _peak_on_cuda(step: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = step()
    torch.cuda.synchronize(device)
    del result
    return max(0, torch.cuda.max_memory_allocated(device) - before)


def free_bytes(device: torch.device | str = "cpu") -> int | None:
    """Return how many bytes may still be taken without swapping, or None where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = _meminfo("MemAvailable")
    limits = [left for left in (available, _left_to_group()) if left is not None]
    return min(limits, default=None)


def total_bytes() -> int | None:
    """Return the bytes of memory that the machine has, or None where the system does not tell."""
    return _meminfo("MemTotal")


def binary(size: float) -> str:
    """Return bytes in words.

    >>> binary(3 * 2**29), binary(2**20)
    ('1.50 GiB', '1.0 MiB')
    """
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _meminfo(field: str) -> int | None:
    return bytes_in(Path("/proc/meminfo"), field)


def _left_to_group() -> int | None:
    """Return what a container's limit leaves, where there is one."""
    folder = Path("/sys/fs/cgroup")
    for limit, used in (
        (folder / "memory.max", folder / "memory.current"),
        (folder / "memory/memory.limit_in_bytes", folder / "memory/memory.usage_in_bytes"),
    ):
        if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
            return max(0, int(limit.read_text()) - int(used.read_text()))
    return None
