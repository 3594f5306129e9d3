"""Tensors whose classes are cut over several processes: what is where."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, distributed

from bisector.errors import require

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor | None) -> "TypeGuard[DTensor]":
    """Return whether a tensor is a `torch.distributed.tensor.DTensor`, without importing that module.

    >>> import torch
    >>> is_sharded(torch.zeros(3))
    False
    """
    return hasattr(tensor, "device_mesh")


def whole(
    tensor: Tensor,  # (C, ...)
) -> Tensor:
    """Return all classes of a tensor that may be sharded; then every process must call this."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def whole_on_first(
    tensor: "DTensor",  # (C, ...)
    at_a_time: int = 64 << 20,
) -> Tensor | None:
    """Return all classes on the CPU of the first process, and None on the others; every process must call this.

    Beside its own part, no device holds more than the bytes that are sent at once.

    Args:
        tensor: sharded over its first dimension.
        at_a_time: the bytes that all processes together send at once; a row of each at least.
    """
    classes_here(tensor)  # says so if it is cut in another way
    local, world = tensor.to_local().detach(), tensor.device_mesh.size()
    group, first = tensor.device_mesh.get_group(), tensor.device_mesh.get_local_rank() == 0
    found = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu") if first else None
    widest = -(-len(tensor) // world)
    rows = max(1, at_a_time // (world * max(1, local.shape[1:].numel() * local.itemsize)))
    for start in range(0, widest, rows):
        sent = local.new_zeros(min(rows, widest - start), *local.shape[1:])
        part = local[start : start + len(sent)]
        sent[: len(part)] = part
        parts = [torch.empty_like(sent) for _ in range(world)] if first else None
        distributed.gather(sent, parts, group=group, group_dst=0)
        for rank, received in enumerate(parts or ()):
            assert found is not None
            place = found[rank * widest : (rank + 1) * widest][start : start + len(sent)]
            place.copy_(received[: len(place)])
    return found


def classes_here(tensor: "DTensor") -> slice:
    """Return which of all classes, the rows of a sharded tensor, this process holds.

    torch cuts C rows into runs of ceil(C / world); the last processes may hold fewer, or none.

    Raises:
        ArgumentError: the tensor is cut in another way.
    """
    mesh, placements = tensor.device_mesh, tensor.placements
    fits = mesh.ndim == 1 and placements[0].is_shard(0)
    require(fits, "weight", f"placements {placements}", "(Shard(dim=0),) on a mesh of one dimension")
    widest = -(-len(tensor) // mesh.size())
    first = min(mesh.get_local_rank() * widest, len(tensor))
    return slice(first, min(first + widest, len(tensor)))


def alongside(
    values: Tensor,  # (C, ...)
    sharded: Tensor | None,  # (C, ...)
) -> Tensor:
    """Return whole values cut as another tensor is, where its mesh is; as they are where that is not sharded."""
    if not is_sharded(sharded) or is_sharded(values):
        return values
    from torch.distributed.tensor import DTensor

    part = values[classes_here(sharded)].to(sharded.to_local().device)
    return DTensor.from_local(
        part, sharded.device_mesh, sharded.placements, shape=values.shape, stride=values.stride()
    )


@dataclass(frozen=True)
class Shard:
    """A run of classes that this process holds, and how numbers are put together with the other processes'.

    This one is for a process that holds all classes; `bisector.engine.processes` has the one for many.

    Attributes:
        first: the class of the first row of this process's weights.
        classes: C, of all processes.
        widest: the most classes that any process holds; all must cut the rows into the same chunks.
    """

    first: int
    classes: int
    widest: int

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, the same on all."""
        return values

    def max(self, values: Tensor) -> Tensor:
        """Return the maximum over the processes, the same on all."""
        return values
