"""Clipping and loss scaling where some parameters are sharded over processes and others are not.

torch does either for parameters that are all sharded or all not, but refuses a mixture.
"""

import math
from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from bisector.engine.sharded import is_sharded, whole
from bisector.errors import require_number

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Clip the norm of all gradients together, as `torch.nn.utils.clip_grad_norm_`; some may be sharded.

    A sharded gradient counts with the parts of all processes, another one once: all processes find the same norm,
    that of a training in one process, and scale by the same factor. All of them must call this.

    Args:
        parameters: whose ``.grad`` are clipped in place.
        max_norm: the norm that is allowed; ``math.inf`` only reads the norm.
        norm_type: p, above 0; ``math.inf`` for the largest entry.
        error_if_nonfinite: raise where the norm is not finite.

    Returns:
        The norm before clipping, the same on all processes.

    Raises:
        ArgumentError: max_norm is negative, or norm_type not above 0.
        RuntimeError: the norm is not finite, with `error_if_nonfinite`.

    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> clip_grad_norm_([w], max_norm=1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6000, 0.8000])
    """
    if max_norm != math.inf:
        require_number("max_norm", max_norm, least=0)
    if norm_type != math.inf:
        require_number("norm_type", norm_type, above=0)
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    gradients = [p.grad for p in given if p.grad is not None]
    plain = [gradient for gradient in gradients if not is_sharded(gradient)]
    norms = [torch.nn.utils.get_total_norm(plain, norm_type)] if plain else []
    norms += [_norm_of_all(g, norm_type) for g in gradients if is_sharded(g)]
    if not norms:
        return torch.zeros(())
    first = norms[0].device
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(first) for norm in norms]), norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(f"the norm of the gradients is {float(total)}, so that they cannot be clipped")
    if max_norm == math.inf:
        return total
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        local = gradient.to_local() if is_sharded(gradient) else gradient
        local.mul_(factor.to(local.device))
    return total


def _norm_of_all(gradient: "DTensor", norm_type: float) -> Tensor:
    """Return the norm over all processes' parts; every process must call this."""
    mesh = gradient.device_mesh
    if mesh.ndim > 1 or not gradient.placements[0].is_shard():
        return whole(torch.linalg.vector_norm(gradient, norm_type))
    local = gradient.to_local()
    # torch knows no largest entry of the part of a process that holds no classes.
    mine = torch.linalg.vector_norm(local, norm_type) if local.numel() else local.new_zeros(())
    norms = mine.new_empty(mesh.size())
    distributed.all_gather_into_tensor(norms, mine[None], group=mesh.get_group())
    norm: Tensor = torch.linalg.vector_norm(norms, norm_type)
    return norm


class GradScaler(torch.amp.GradScaler):
    """`torch.amp.GradScaler` for optimisers of which some parameters are sharded.

    Where any process finds an infinity or NaN in its part of the gradients, all skip the step and lower the scale.
    All must call it. Without sharded parameters it is torch's.
    """

    def _unscale_grads_(
        self, optimizer: torch.optim.Optimizer, inv_scale: Tensor, found_inf: Tensor, allow_fp16: bool
    ) -> dict[torch.device, Tensor]:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        sharded = [parameter for parameter in parameters if is_sharded(parameter)]
        if not sharded:
            return super()._unscale_grads_(optimizer, inv_scale, found_inf, allow_fp16)
        plain = [parameter for parameter in parameters if not is_sharded(parameter)]
        found: dict[torch.device, Tensor] = {}
        for some in (plain, _local_parts(sharded)):
            alike: Any = SimpleNamespace(param_groups=[{"params": some}])  # all that is asked of an optimiser
            each = super()._unscale_grads_(alike, inv_scale, found_inf.clone(), allow_fp16)
            for device, flag in each.items():
                found[device] = torch.maximum(found[device], flag) if device in found else flag
        # A process whose parameters have no gradient has found nothing, but must say so.
        device = sharded[0].to_local().device
        worst = torch.stack([flag.to(device) for flag in found.values()] or [found_inf.to(device)]).amax()
        for group in {sharded_one.device_mesh.get_group() for sharded_one in sharded}:
            distributed.all_reduce(worst, distributed.ReduceOp.MAX, group=group)
        return {place: worst.to(place).clone() for place in found} or {device: worst}


def _local_parts(sharded: list[Any]) -> list[Tensor]:
    """Return stand-ins for sharded parameters, whose gradients are the parts of this process."""
    parts: list[Tensor] = []
    for parameter in sharded:
        if parameter.grad is not None:
            gradient = parameter.grad.to_local()
            stand_in = torch.nn.Parameter(gradient.detach(), requires_grad=False)
            stand_in.grad = gradient
            parts.append(stand_in)
    return parts
