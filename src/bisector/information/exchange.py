"""What processes tell each other when they measure together: numbers, parcels of bytes, and what went wrong."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from bisector.errors import ArgumentError, require


def several_processes(group: distributed.ProcessGroup | None = None) -> bool:
    """Say whether this process works together with others of the group; None is the default group.

    >>> several_processes()
    False
    """
    ready = distributed.is_available() and distributed.is_initialized()
    return ready and distributed.get_world_size(group) > 1


def to_bytes(state: Any) -> Tensor:
    """Return tensors and builtins as one uint8 tensor, which `from_bytes` reads.

    >>> from_bytes(to_bytes({"rows": 3}))
    {'rows': 3}
    """
    stream = io.BytesIO()
    torch.save(state, stream)
    return torch.frombuffer(stream.getbuffer(), dtype=torch.uint8)


def from_bytes(parcel: Tensor) -> Any:
    """The inverse of `to_bytes`; runs no code that may be in them."""
    stream = io.BytesIO(parcel.cpu().contiguous().numpy().data)
    return torch.load(stream, map_location="cpu", weights_only=True)


class Exchange:
    """Collective calls among the processes of a group: each of them must make the same ones in the same order.

    What goes to and fro is on the CPU where the group's backend can do that (gloo), else it passes through this
    process's current GPU (NCCL).

    Args:
        group: The processes; None for all.

    Raises:
        ArgumentError: if `torch.distributed` is not initialised, or this process is not of the group.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        ready = distributed.is_available() and distributed.is_initialized()
        require(
            ready, "group", "torch.distributed, which is not initialised", "init_process_group to come first"
        )
        self.group = group
        self.rank = distributed.get_rank(group)
        require(self.rank >= 0, "group", "one that this process is not of", "a group with this process")
        self.world = distributed.get_world_size(group)
        on_cpu = "cpu:" in distributed.get_backend_config(group)
        self._device = torch.device("cpu") if on_cpu else torch.device("cuda", torch.cuda.current_device())
        self._error: Exception | None = None

    def gather(
        self,
        numbers: Tensor,  # (...), of one shape on all processes
    ) -> Tensor:
        """Return the numbers of all, to the bit, in the order of the ranks: (world, ...), on the CPU."""
        mine = numbers.to(self._device).contiguous()
        told = mine.new_empty(self.world, *mine.shape)
        distributed.all_gather_into_tensor(told.flatten(), mine.flatten(), group=self.group)
        return told.cpu()

    def swap(
        self,
        parcels: Sequence[Tensor],  # world of (n,) uint8, n of any size
    ) -> list[Tensor]:
        """Send a parcel to every process; return those that came from every process, by rank, on the CPU."""
        sizes = torch.tensor([len(parcel) for parcel in parcels], device=self._device)
        sizes_told = torch.empty_like(sizes)
        distributed.all_to_all_single(sizes_told, sizes, group=self.group)
        there, here = sizes.tolist(), sizes_told.tolist()
        sent = torch.cat(list(parcels)).to(self._device)
        told = sent.new_empty(sum(here))
        distributed.all_to_all_single(told, sent, here, there, group=self.group)
        return list(torch.split(told.cpu(), here))

    def no_parcels(self) -> list[Tensor]:
        """Return an empty parcel for every process."""
        return [torch.empty(0, dtype=torch.uint8, device="cpu")] * self.world

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Keep what goes wrong within for `agree`: until then the others count on this process's next call."""
        try:
            yield
        except Exception as error:
            self._error = self._error or error

    def agree(self) -> None:
        """Raise, on all processes, what an `attempt` on any of them has kept.

        Raises:
            Exception: what was raised here; or an `ArgumentError` or a `RuntimeError` that tells what was
                raised on the first rank that failed.
        """
        error, self._error = self._error, None
        kind = 0 if error is None else 1 if isinstance(error, ArgumentError) else 2
        kinds = self.gather(torch.tensor(kind, device="cpu")).tolist()
        if not any(kinds):
            return
        messages = self.swap([to_bytes(str(error))] * self.world)
        if error is not None:
            raise error
        first = next(rank for rank, kind in enumerate(kinds) if kind)
        told = f"{from_bytes(messages[first])} (on rank {first})"
        raise ArgumentError(told) if kinds[first] == 1 else RuntimeError(told)
