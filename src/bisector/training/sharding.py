"""ShardedDDP: the Lightning strategy for models whose heads' classes are cut over the processes."""

from collections.abc import Mapping
from typing import Any

import torch

from bisector.engine.gradients import GradScaler, clip_grad_norm_
from bisector.engine.sharded import alongside, is_sharded, whole_on_first
from bisector.heads import shard_classes
from bisector.training._lightning import DDPStrategy, Trainer


class ShardedDDP(DDPStrategy):
    """`DDPStrategy`, with the classes of every head of the module cut over the processes by `shard_classes`.

    ``Trainer(strategy=ShardedDDP())`` is all that is needed: the backbone is trained as ever, gradient clipping by
    norm sees the gradients of all classes, and with "16-mixed" all processes skip the same steps.

    A checkpoint has whole tensors, which rank 0 gathers on its CPU: its host needs room for all of them, (C, D)
    weights and momenta. It can be resumed with any number of processes, one included, each of which reads it whole
    on its CPU. Where that is too much, save with `torch.distributed.checkpoint` instead (docs/scale.md).

    Args:
        options: those of `lightning.pytorch.strategies.DDPStrategy`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Whether weights are loaded after `setup`: yes, since those on the meta device have no place before."""
        return True

    def setup(self, trainer: Trainer) -> None:
        """Cut the classes before the optimisers are made and DDP wraps the module."""
        assert self.lightning_module is not None
        self.model_to_device()
        shard_classes(self.lightning_module)
        # Lightning's call torch's, which refuse a mixture of sharded and other gradients.
        plugin: Any = self.precision_plugin
        plugin.clip_grad_by_norm = lambda optimizer, clip_val: clip_grad_norm_(
            plugin.main_params(optimizer), clip_val
        )
        scaler = getattr(plugin, "scaler", None)
        if type(scaler) is torch.amp.GradScaler:
            plugin.scaler = GradScaler(scaler._device)
            plugin.scaler.load_state_dict(scaler.state_dict())
        super().setup(trainer)

    def model_to_device(self) -> None:
        """Move the module; parameters that are on the meta device are made where they belong."""
        assert self.lightning_module is not None
        if not any(parameter.is_meta for parameter in self.lightning_module.parameters()):
            super().model_to_device()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the whole weights, on rank 0."""
        found: dict[str, Any] = self._gathered(super().lightning_module_state_dict())
        return found

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the whole state, on rank 0."""
        found: dict[str, Any] = self._gathered(super().optimizer_state(optimizer))
        return found

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load whole states, each process its part."""
        states = checkpoint["optimizer_states"]
        cut = [_cut(state, optimizer) for state, optimizer in zip(states, self.optimizers, strict=True)]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": cut})

    def _gathered(self, state: Any) -> Any:
        if isinstance(state, Mapping):
            return {key: self._gathered(value) for key, value in state.items()}
        if isinstance(state, torch.Tensor) and is_sharded(state):
            return whole_on_first(state)
        return state


def _cut(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimiser's state with what belongs to sharded parameters cut as these are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = {
        number: {
            name: alongside(value, parameters[number])
            if isinstance(value, torch.Tensor) and _goes_by_class(name, value, parameters[number])
            else value
            for name, value in of_one.items()
        }
        for number, of_one in state["state"].items()
    }
    return {**state, "state": states}


def _goes_by_class(name: str, value: torch.Tensor, parameter: torch.Tensor) -> bool:
    """Return whether a state has a row for each of the parameter's, as the counts of `RowwiseAdamW` do."""
    return value.shape == parameter.shape or (name == "step" and value.shape == parameter.shape[:1])
