"""TrainingState: a model and its optimiser as torch.distributed.checkpoint stores them."""

from typing import Any

import torch
from torch import Tensor, nn

EXTRA = "_extra_state"


class TrainingState:
    """A model and its optimiser, for `torch.distributed.checkpoint` to save and load.

    Every process writes its own part of sharded weights and of what the optimiser holds for them, by global class;
    it can be loaded by any number of processes, also by one whose model is not sharded at all, bit for bit.
    ``{"training": TrainingState(model, optimizer)}`` goes to `torch.distributed.checkpoint.save` and, made
    of a new model and its new optimiser, to ``load``, which fills both.

    The plain state dicts go there too, but an `IGAM` head's amounts and meter are of any length, which ``load``
    refuses of a tensor; here they are stored as bytes.

    Args:
        model: any module, wrapped in DDP or not.
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
        stored = {name: _bytes(value) if name.endswith(EXTRA) else value for name, value in weights.items()}
        return {"model": stored, "optimizer": states} if self.optimizers else {"model": stored}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Fill model and optimiser."""
        from torch.distributed.checkpoint.state_dict import set_state_dict

        weights = {name: _tensor(value) for name, value in state_dict["model"].items()}
        states = state_dict.get("optimizer", {})
        set_state_dict(self.model, self.optimizers, model_state_dict=weights, optim_state_dict=states)


def _bytes(value: Any) -> Any:
    return (
        value.cpu().numpy().tobytes() if isinstance(value, Tensor) and value.dtype == torch.uint8 else value
    )


def _tensor(value: Any) -> Any:
    return torch.frombuffer(bytearray(value), dtype=torch.uint8) if isinstance(value, bytes) else value
