"""TrainingState: a model and its optimiser as torch.distributed.checkpoint stores them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from bisector.errors import require
from bisector.heads.igam import IGAM
from bisector.information.exchange import several_processes

EXTRA = "_extra_state"


class TrainingState:
    """A model and its optimiser, for `torch.distributed.checkpoint` to save and load.

    Every process writes its own part of sharded weights and of what the optimiser holds for them, by global class;
    it can be loaded by any number of processes, also by one whose model is not sharded at all, bit for bit.
    ``{"training": TrainingState(model, optimizer)}`` goes to `torch.distributed.checkpoint.save` and, made
    of a new model and its new optimiser, to ``load``, which fills both.

    The plain state dicts go there too, but an `IGAM` head's amounts and meter are of any length, which ``load``
    refuses of a tensor; here they are stored as bytes. They are what the meters of all processes have observed
    since the last refresh, and after a load they are with the first process alone, so that they count once; those
    of heads with ``together=False``, which all processes have alike, are stored once and loaded by each.

    Args:
        model: any module, wrapped in DDP, by `torch.compile`, or not.
        optimizer: the one that trains it, if it shall be stored.

    >>> state = TrainingState(nn.Linear(2, 2))
    >>> sorted(state.state_dict()["model"])
    ['bias', 'weight']
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        self.model = model
        self.optimizers = () if optimizer is None else (optimizer,)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, sharded as the model is.

        Raises:
            ArgumentError: a head is within a wrapper whose names are not known, and its evidence would be lost.
        """
        from torch.distributed.checkpoint.state_dict import get_state_dict

        weights, states = get_state_dict(self.model, self.optimizers)
        observed = self._observed_by_all()
        for name in observed:
            require(
                name in weights, "model", f"a head stored as {name}", f"a name among {', '.join(weights)}"
            )
        weights = {**weights, **observed}
        stored = {name: _bytes(value) if name.endswith(EXTRA) else value for name, value in weights.items()}
        return {"model": stored, "optimizer": states} if self.optimizers else {"model": stored}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Fill model and optimiser."""
        from torch.distributed.checkpoint.state_dict import set_state_dict

        weights = {name: _tensor(value) for name, value in state_dict["model"].items()}
        states = state_dict.get("optimizer", {})
        set_state_dict(self.model, self.optimizers, model_state_dict=weights, optim_state_dict=states)
        for head in self._measuring_heads().values():
            assert head.information is not None
            if head.observes_a_share() and distributed.get_rank() > 0:
                head.information.reset()

    def _measuring_heads(self) -> dict[str, IGAM]:
        """Return the heads that have a meter, by their names in a state dict."""
        modules = dict(self.model.named_modules())
        return {
            _stored_name(name, modules): head
            for name, head in modules.items()
            if isinstance(head, IGAM) and head.information is not None
        }

    def _observed_by_all(self) -> dict[str, Tensor]:
        """Return the extra states with what all processes observed, on each: any of them may have to write."""
        if not several_processes():
            return {}
        found = {}
        for name, head in self._measuring_heads().items():
            told = [head.joint_extra_state()]
            distributed.broadcast_object_list(told, src=0)
            assert told[0] is not None
            found[f"{name}.{EXTRA}" if name else EXTRA] = told[0]
        return found


def _stored_name(name: str, modules: Mapping[str, nn.Module]) -> str:
    """Return the name of a module without what wrappers put between, as torch does in `get_state_dict`."""
    parts = name.split(".") if name else []
    holders = [modules[".".join(parts[:k])] for k in range(len(parts))]
    return ".".join(
        part
        for part, holder in zip(parts, holders, strict=True)
        if part != "_orig_mod"
        and not (part == "module" and isinstance(holder, nn.parallel.DistributedDataParallel))
    )


def _bytes(value: Any) -> Any:
    return (
        value.cpu().numpy().tobytes() if isinstance(value, Tensor) and value.dtype == torch.uint8 else value
    )


def _tensor(value: Any) -> Any:
    return torch.frombuffer(bytearray(value), dtype=torch.uint8) if isinstance(value, bytes) else value
