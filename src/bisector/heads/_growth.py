"""Parameters that grow by rows, for `Head.add_classes`: under a parametrisation too, with the optimiser's state."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bisector.errors import require


def require_growing_state(parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
    """Raise `ArgumentError` at a state with one entry a class that is not of the parameter's shape.

    The steps that each row has made, as `bisector.RowwiseAdamW` counts them, can grow all the same.
    """
    for key, value in optimizer.state.get(parameter, {}).items():
        if key != "step" and isinstance(value, Tensor) and value.dim() and len(value) == len(parameter):
            got = f"{type(optimizer).__name__} with a state {key!r} of shape {tuple(value.shape)}"
            require(
                value.shape == parameter.shape, "optimizer", got, f"states of shape {tuple(parameter.shape)}"
            )


def growth(head: nn.Module, name: str, rows: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """Return which parameters grow by which rows, so that the head's tensor of that name grows by `rows`.

    Raises:
        ArgumentError: the tensor is computed from others in a way that cannot grow.
    """
    if name in head._parameters:
        return [(getattr(head, name), rows)]
    got = "one that a hook computes from other parameters"
    legal = "a parameter: undo it first (remove_weight_norm, remove_spectral_norm, prune.remove)"
    require(parametrize.is_parametrized(head, name), name, got, legal)
    computed: Any = head.parametrizations[name]  # type: ignore[index]
    steps = [
        copy.deepcopy(step).eval() for step in computed
    ]  # to try: some change what they hold at every use
    originals = [computed.original] if computed.is_tensor else _originals(computed)
    kinds = ", ".join(type(step).__name__ for step in steps)
    legal = "one of each class by itself: torch.nn.utils.parametrize.remove_parametrizations first"
    try:
        with torch.no_grad():
            added = rows
            for step in reversed(steps):
                added = step.right_inverse(added)
            parts = [added] if isinstance(added, Tensor) else list(added)
            grown = [torch.cat([old, new]) for old, new in zip(originals, parts, strict=True)]
            before, after = _through(steps, originals), _through(steps, grown)
            fits = after.shape == (len(before) + len(rows), *before.shape[1:])
            # To rounding: a product of more rows may be another kernel's.
            fits = fits and torch.allclose(after, torch.cat([before, rows]), rtol=1e-4, atol=1e-6)
    except Exception:  # whatever a parametrisation does with another number of rows
        fits = False
    require(fits, name, f"one under a parametrisation, {kinds}", legal)
    return list(zip(originals, parts, strict=True))


def _through(steps: list[Any], originals: Sequence[Tensor]) -> Tensor:
    computed: Tensor = steps[0](*originals)
    for step in steps[1:]:
        computed = step(computed)
    return computed


def _originals(computed: Any) -> list[nn.Parameter]:
    return [getattr(computed, f"original{i}") for i in range(computed.ntensors)]


def grow(parameter: nn.Parameter, rows: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """Append rows to a parameter in place, and zeros to every optimiser state of its shape."""
    old, grown = parameter.shape, torch.cat([parameter.data, rows])
    parameter.grad = None
    # The graph of the last loss may still hold the parameter's gradient accumulator, which knows the old shape;
    # autograd makes a new one only when the dtype changes.
    other = torch.float16 if parameter.dtype == torch.float32 else torch.float32
    parameter.data = parameter.data.new_empty(0, dtype=other)
    parameter.data = grown
    if optimizer is not None:
        for key, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor):
                continue
            if value.shape == old or (key == "step" and value.shape == old[:1]):
                none = value.new_zeros(len(rows), *value.shape[1:])
                optimizer.state[parameter][key] = torch.cat([value, none])
