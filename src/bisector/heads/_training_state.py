"""TrainingState: a model and its optimiser as torch.distributed.checkpoint stores them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed, nn

from bisector.heads.igam import IGAM
from bisector.information.distributed import from_bytes, several_processes, to_bytes


class TrainingState:
    """A model and its optimiser, for `torch.distributed.checkpoint` to save and load.

    Every process writes its own part of sharded weights and of what the optimiser holds for them, by global class;
    it can be loaded by any number of processes, also by one whose model is not sharded at all, bit for bit.
    ``{"training": TrainingState(model, optimizer)}`` goes to `torch.distributed.checkpoint.save` and, made
    of a new model and its new optimiser, to ``load``, which fills both.

    The plain state dicts go there too, but without what the meter of an `IGAM` head has observed since the last
    refresh, which is of any length; here it is stored as bytes. It is what the meters of all processes have
    observed, and after a load it is with the first process alone, so that it counts once; that of heads with
    ``together=False``, which all processes have alike, is stored once and loaded by each.

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
        """Return the state, sharded as the model is."""
        from torch.distributed.checkpoint.state_dict import get_state_dict

        weights, states = get_state_dict(self.model, self.optimizers)
        others = {"meters": self._observed_by_all(), "optimizer": states if self.optimizers else {}}
        return {"model": weights, **{name: value for name, value in others.items() if value}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Fill model, optimiser and meters."""
        from torch.distributed.checkpoint.state_dict import set_state_dict

        weights, states = state_dict["model"], state_dict.get("optimizer", {})
        set_state_dict(self.model, self.optimizers, model_state_dict=weights, optim_state_dict=states)
        for name, head in self._measuring_heads().items():
            assert head.information is not None
            if head.observes_a_share() and distributed.get_rank() > 0:
                head.information.reset()
            else:
                parcel = torch.frombuffer(bytearray(state_dict["meters"][name]), dtype=torch.uint8)
                head.information.load_state_dict(from_bytes(parcel))

    def _measuring_heads(self) -> dict[str, IGAM]:
        """Return the heads that have a meter, by their names in a state dict."""
        modules = dict(self.model.named_modules())
        return {
            _stored_name(name, modules): head
            for name, head in modules.items()
            if isinstance(head, IGAM) and head.information is not None
        }

    def _observed_by_all(self) -> dict[str, bytes]:
        """Return what all processes have observed, on each: any of them may have to write it."""
        found = {}
        for name, head in self._measuring_heads().items():
            meter = head.joint_meter()
            told = [None if meter is None else to_bytes(meter.state_dict()).numpy().tobytes()]
            if several_processes():
                distributed.broadcast_object_list(told, src=0)
            assert told[0] is not None
            found[name] = told[0]
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
