"""shard_classes: cut the classes of heads over the processes that train together."""

import math
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, distributed, nn

from bisector.engine.sharded import classes_here, is_sharded
from bisector.errors import require
from bisector.heads._base import Head
from bisector.heads.igam import IGAM

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

Model = TypeVar("Model", bound=nn.Module)

# Classes drawn together, from a seed of their own, so that the number of processes makes no difference.
DRAWN_TOGETHER = 4096


def shard_classes(model: Model, mesh: "DeviceMesh | None" = None) -> Model:
    """Cut the class weights of every head in a model over the processes; returns the model itself.

    Each process keeps ceil(C / world) consecutive rows of the (C, D) weights (the last ones what is left) and of
    the bias; what an optimiser holds for them is cut with them. The loss becomes that of the rows of all
    processes, and every process must call it, as `logits` and `predict`, at the same time. Class counts, class
    weights and guides, a number a class, stay whole on every process.

    The parameters become a `torch.distributed.tensor.DTensor`. Call this after `torch.distributed` is initialised,
    and before the optimiser is made and the model goes into `torch.nn.parallel.DistributedDataParallel`, which is
    told to leave these parameters alone. That is told to the model that is given here: give the one that will be
    wrapped, or one wrapped around heads that are sharded already.

    A head whose parameters were made on the meta device is drawn here, each process its own classes, so that no
    process ever holds all (C, D); with one seed in rank 0 the same weights are drawn for any number of processes.
    Of other heads the weights of rank 0 count, and what else they hold (IGAM's amounts; what its meter has
    observed stays with rank 0, and the meters of the others are emptied, or with ``together=False`` become as
    that of rank 0). Weights that are frozen stay so.

    Args:
        model: a head, or a module that holds heads.
        mesh: of one dimension, with the device type of the training; all processes if None.

    Raises:
        ArgumentError: no head is there, the mesh has more dimensions, a head holds numbers without values, or it
            shares its weights with another module.
    """
    heads = [module for module in model.modules() if isinstance(module, Head)]
    require(
        bool(heads), "model", f"{type(model).__name__} without a head", "a head of bisector somewhere in it"
    )
    _require_own_weights(model, heads)
    for head in heads:
        if not is_sharded(head.weight):
            _shard(head, mesh or _all_processes(head.weight.device.type))
    left_alone = []
    for name, parameter in model.named_parameters():
        if is_sharded(parameter):
            left_alone += [name, f".{name}"]  # as DDP spells the names of a model's own parameters
    constant = {id(buffer) for head in heads for buffer in head.buffers(recurse=False)}
    # DDP would send these numbers a class, which all have and none changes, anew in each step.
    left_alone += [name for name, buffer in model.named_buffers() if id(buffer) in constant]
    leave_alone = nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    told = getattr(model, "_ddp_params_and_buffers_to_ignore", ())
    leave_alone(model, [*told, *(name for name in left_alone if name not in told)])  # type: ignore[no-untyped-call]
    return model


def _all_processes(device_type: str) -> "DeviceMesh":
    ready = distributed.is_available() and distributed.is_initialized()
    require(ready, "mesh", "None, and torch.distributed is not initialised", "init_process_group first")
    if device_type == "meta":
        device_type = "cuda" if "nccl" in distributed.get_backend() else "cpu"
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device_type, (distributed.get_world_size(),))


def _require_own_weights(model: nn.Module, heads: list[Head]) -> None:
    """Refuse weights that two modules have: each head's are replaced, and would be one's own from then on."""
    holders = Counter(
        id(p) for module in model.modules() for p in module._parameters.values() if p is not None
    )
    for head in heads:
        for name, parameter in (("weight", head.weight), ("bias", head.bias)):
            if parameter is not None and not is_sharded(parameter):
                alone = holders[id(parameter)] == 1
                require(alone, name, "a parameter that another module has too", "one of the head alone")


def _shard(head: Head, mesh: "DeviceMesh") -> None:
    from torch.distributed.tensor import Shard, distribute_tensor

    require(mesh.ndim == 1, "mesh", f"{mesh.ndim} dimensions", "one")
    if head.weight.is_meta:
        head.weight = _in_place_of(head.weight, _drawn(head.weight, mesh))
        if head.bias is not None:
            head.bias = _in_place_of(head.bias, _empty(head.bias, mesh).zero_())
    else:
        head.weight = _in_place_of(head.weight, distribute_tensor(head.weight.detach(), mesh, [Shard(0)]))
        if head.bias is not None:
            head.bias = _in_place_of(head.bias, distribute_tensor(head.bias.detach(), mesh, [Shard(0)]))
    assert is_sharded(head.weight)
    device = head.weight.to_local().device
    for name, tensor in [*head.named_parameters(recurse=False), *head.named_buffers(recurse=False)]:
        if is_sharded(tensor):
            continue
        require(not tensor.is_meta, name, "a tensor on the meta device", "one with values")
        tensor.data = tensor.data.to(device)
        distributed.broadcast(tensor.data, group=mesh.get_group(), group_src=0)
    if not isinstance(head, IGAM) or head.information is None:
        return
    first = mesh.get_local_rank() == 0
    if head.together:
        if not first:
            head.information.reset()  # what was observed counts once, when the processes refresh together
    else:
        told = [head.information.state_dict() if first else None]
        distributed.broadcast_object_list(told, group=mesh.get_group(), group_src=0, device=device)
        if not first and told[0] is not None:
            head.information.load_state_dict(told[0])


def _in_place_of(parameter: nn.Parameter, sharded: Tensor) -> nn.Parameter:
    return nn.Parameter(sharded, requires_grad=parameter.requires_grad)


def _empty(like: Tensor, mesh: "DeviceMesh") -> "DTensor":
    """Return a DTensor without values, each process holding its part."""
    from torch.distributed.tensor import DTensor, Shard

    widest = -(-len(like) // mesh.size())
    first = min(mesh.get_local_rank() * widest, len(like))
    here = min(widest, len(like) - first)
    local = torch.empty(here, *like.shape[1:], dtype=like.dtype, device=mesh.device_type)
    return DTensor.from_local(local, mesh, [Shard(0)], shape=like.shape, stride=like.stride())


def _drawn(like: Tensor, mesh: "DeviceMesh") -> "DTensor":
    """Return class vectors drawn as `torch.nn.Linear` does its weight, a run of classes at a time."""
    found = _empty(like, mesh)
    here, local = classes_here(found), found.to_local()
    seed = torch.randint(1 << 40, (1,), device="cpu").to(local.device)
    distributed.broadcast(seed, group=mesh.get_group(), group_src=0)
    for run in range(here.start // DRAWN_TOGETHER, -(-here.stop // DRAWN_TOGETHER)):
        start = run * DRAWN_TOGETHER
        # On the CPU: a device's random numbers may be those of no other.
        generator = torch.Generator("cpu").manual_seed(int(seed) + run)
        length = min(DRAWN_TOGETHER, len(like) - start)
        drawn = torch.empty(length, *like.shape[1:], dtype=like.dtype, device="cpu")
        nn.init.kaiming_uniform_(drawn.flatten(0, -2), a=math.sqrt(5), generator=generator)
        first, last = max(start, here.start), min(start + length, here.stop)
        local[first - here.start : last - here.start] = drawn[first - start : last - start]
    return found
