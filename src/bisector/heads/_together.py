"""What the heads share that count batches: the numbers of all processes as one."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed

from bisector.errors import ArgumentError, require
from bisector.information.distributed import several_processes


def counted(
    count: Callable[[], Tensor],
    nothing: Tensor,  # (n,)
    together: bool,
    what: str,
) -> Tensor:
    """Return the (n,) numbers that a batch counts, summed over the processes, all of which then make this call.

    Args:
        count: counts this process's batch; the `ArgumentError` that it raises is raised on all processes.
        nothing: what a batch without rows counts, in the dtype and the place where the processes talk.
        together: whether the processes' numbers are summed; False: each returns its own.
        what: the arguments, as the other processes name them.

    >>> counted(lambda: torch.ones(2), torch.zeros(2), True, "labels")
    tensor([1., 1.])
    """
    told, found, wrong = None, nothing, nothing.new_zeros(1)
    try:
        found = count()
    except ArgumentError as error:
        told, wrong = error, nothing.new_ones(1)
    together = together and several_processes()
    if together:
        parcel = torch.cat([found.to(nothing), wrong])
        distributed.all_reduce(parcel)
        found, wrong = parcel[:-1], parcel[-1:]
    if told is not None:
        raise told
    if together:
        require(int(wrong) == 0, what, "illegal ones on another process", "see there")
    return found
