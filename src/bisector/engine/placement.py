"""Tensors whose classes are cut over several processes: what is where."""

from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

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
