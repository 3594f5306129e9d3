"""Several processes, one measurement: each feeds a meter of its own, and these are merged when asked."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from bisector.errors import ArgumentError, require
from bisector.information.class_information import ClassInformation
from bisector.information.meter import InformationMeter
from bisector.information.rows import EMBEDDING_SCALES
from bisector.statistics.shrinkage import SHRINKAGES

# What a process sends at a time, about; several such copies of it exist for a moment.
ROUND_BYTES = 2**28


def several_processes(group: distributed.ProcessGroup | None = None) -> bool:
    """Say whether this process works together with others of the group; None is the default group.

    >>> several_processes()
    False
    """
    ready = distributed.is_available() and distributed.is_initialized()
    return ready and distributed.get_world_size(group) > 1


def compute_together(
    meter: InformationMeter,
    group: distributed.ProcessGroup | None = None,
    *,
    ranks: bool = True,
) -> ClassInformation:
    """Return what the meters of all processes hold together: `compute` of their merge, bit for bit alike on all.

    Every process must call it. No meter changes, so no instance is ever counted twice; a process may hold
    nothing of a class, or nothing at all. Drift is measured from the means of all at the last `forget`, which
    each process calls for its own meter.

    Class c is the work of process c mod world: it gets the other processes' states of its classes, merges them
    in the order of the ranks and computes; then each tells the others its numbers. No process ever holds the
    states of all.

    It costs one way, a process: the state of the classes of others, which is (world - 1) / world of
    `InformationMeter.nbytes` (8 bytes a number, of which a class of n instances in p dimensions has about
    min(n, p) p), in rounds of about 256 MiB; then 8 bytes a class for each of some ten numbers. These are
    2 rounds + 3 collective calls: one gather of the options and sizes, two all-to-all exchanges a round (of sizes
    and of states), one gather of what went wrong and one of the numbers. That is spent when it is called, once an
    epoch, and nothing in a step.

    Args:
        meter: That of this process.
        group: The processes; None for all.
        ranks: Whether effective ranks are wanted, as in `InformationMeter.compute`.

    Raises:
        ArgumentError: on all processes, if the meters differ in an option, or `torch.distributed` is not
            initialised.
        RuntimeError: on all processes, if something else fails on one.
    """
    link = _Exchange(group)
    part = _own_classes(meter, link, largest=max(_sizes(meter, link)))
    numbers = torch.empty(0, 1, device="cpu")
    with link.attempt():
        numbers = part.class_numbers(ranks=ranks)[link.rank :: link.world]
    link.agree()
    padded = numbers.new_zeros(-(-meter.num_classes // link.world), numbers.shape[1])
    padded[: len(numbers)] = numbers
    # The n-th class of rank r is r + n world.
    known = link.gather(padded).transpose(0, 1).flatten(0, 1)[: meter.num_classes]
    return ClassInformation.of(known, part.skipped)


def merge_onto_first(
    meter: InformationMeter,
    group: distributed.ProcessGroup | None = None,
) -> InformationMeter | None:
    """Return a meter with what the meters of all processes hold, on the first; None on the others.

    Every process must call it; no meter changes. It is for a checkpoint, which one process writes.

    Where a meter of all is loaded by several processes, all but one must `reset` theirs, or its instances
    would be counted by each.

    Args:
        meter: That of this process.
        group: The processes; None for all.

    Raises:
        ArgumentError: as from `compute_together`.
        RuntimeError: as from `compute_together`.
    """
    link = _Exchange(group)
    sizes = _sizes(meter, link)
    part = _own_classes(meter, link, largest=max(sizes))
    rounds = _rounds(sum(sizes))  # all go to one

    def parcel(number: int, rank: int) -> Tensor:
        if rank > 0 or link.rank == 0:
            return link.nothing
        own = range(link.rank + number * link.world, meter.num_classes, rounds * link.world)
        return to_bytes(
            {**part.state_dict(classes=own), "skipped": 0}
        )  # which is no class's, and known to all

    _merge_rounds(part, link, rounds, parcel)
    link.agree()
    return part if link.rank == 0 else None


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


class _Exchange:
    """Collective calls among the processes of a group: each of them must make the same ones in the same order.

    What goes to and fro is on the CPU where the group's backend can do that (gloo), else it passes through this
    process's current GPU (NCCL).
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        ready = distributed.is_available() and distributed.is_initialized()
        got, expected = "torch.distributed, which is not initialised", "init_process_group to come first"
        require(ready, "group", got, expected)
        self.group = group
        self.rank = distributed.get_rank(group)
        require(self.rank >= 0, "group", "one that this process is not of", "a group with this process")
        self.world = distributed.get_world_size(group)
        on_cpu = "cpu:" in distributed.get_backend_config(group)
        self._device = torch.device("cpu") if on_cpu else torch.device("cuda", torch.cuda.current_device())
        self._error: Exception | None = None
        self.nothing = torch.empty(0, dtype=torch.uint8, device="cpu")

    def gather(
        self,
        numbers: Tensor,  # (...), of one shape on all processes
    ) -> Tensor:
        """Return the numbers of all, to the bit, in the order of the ranks: (world, ...), on the CPU."""
        mine = numbers.to(self._device).contiguous()
        all_ = mine.new_empty(self.world, *mine.shape)
        distributed.all_gather_into_tensor(all_.flatten(), mine.flatten(), group=self.group)
        return all_.cpu()

    def swap(
        self,
        parcels: Sequence[Tensor],  # world of (n,) uint8, n of any size
    ) -> list[Tensor]:
        """Send a parcel to every process; return those that came from every process, by rank, on the CPU."""
        sizes = torch.tensor([len(parcel) for parcel in parcels], device=self._device)
        sizes_received = torch.empty_like(sizes)
        distributed.all_to_all_single(sizes_received, sizes, group=self.group)
        there, here = sizes.tolist(), sizes_received.tolist()
        sent = torch.cat(list(parcels)).to(self._device)
        received = sent.new_empty(sum(here))
        distributed.all_to_all_single(received, sent, here, there, group=self.group)
        return list(torch.split(received.cpu(), here))

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
            Exception: what was raised here; or an `ArgumentError` or a `RuntimeError` with the words of what was
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
        words = f"{from_bytes(messages[first])} (on rank {first})"
        raise ArgumentError(words) if kinds[first] == 1 else RuntimeError(words)


def _sizes(meter: InformationMeter, link: _Exchange) -> list[int]:
    """Return the bytes that each process's meter holds; see first that all measure the same."""
    budget = meter.memory_budget
    mine: dict[str, float] = {
        "num_classes": meter.num_classes,
        "dim": meter.dim,
        "embeddings": EMBEDDING_SCALES.index(meter.embeddings),
        "shrinkage": SHRINKAGES.index(meter.shrinkage),
        "forgetting": meter.forgetting,
        "memory_budget": -1 if budget is None else budget,
    }
    names = {"embeddings": EMBEDDING_SCALES, "shrinkage": SHRINKAGES}

    def spelled(option: str, value: float) -> str:
        if option in names:
            return repr(names[option][int(value)])
        return "None" if value < 0 else f"{value:.15g}"

    numbers = torch.tensor([*mine.values(), meter.nbytes], dtype=torch.float64, device="cpu")
    *options, sizes = link.gather(numbers).t().tolist()
    for name, values in zip(mine, options, strict=True):
        odd = next((rank for rank, value in enumerate(values) if value != values[0]), 0)
        got = f"{name} {spelled(name, values[odd])} on rank {odd} and {spelled(name, values[0])} on rank 0"
        require(odd == 0, "meter", got, "the same on all processes")
    return [int(size) for size in sizes]


def _rounds(size: int) -> int:
    return max(1, -(-size // ROUND_BYTES))


def _own_classes(meter: InformationMeter, link: _Exchange, largest: int) -> InformationMeter:
    """Return a meter with what all processes hold of the classes rank, rank + world, ... of this one."""
    part, rounds = _empty(meter), _rounds(largest)

    def parcel(number: int, rank: int) -> Tensor:
        state = meter.state_dict(
            classes=range(rank + number * link.world, meter.num_classes, rounds * link.world)
        )
        return to_bytes(state if number == 0 else {**state, "skipped": 0})

    _merge_rounds(part, link, rounds, parcel)
    return part


def _merge_rounds(
    part: InformationMeter, link: _Exchange, rounds: int, parcel: Callable[[int, int], Tensor]
) -> None:
    """Merge into `part`, by rank, what each process sends in each round: `parcel(round, rank)`."""
    for number in range(rounds):
        parcels = [link.nothing] * link.world
        with link.attempt():
            parcels = [parcel(number, rank) for rank in range(link.world)]
        received = link.swap(parcels)
        with link.attempt():
            for state in received:
                if len(state):  # a process that failed sends nothing
                    other = _empty(part)
                    other.load_state_dict(from_bytes(state))
                    part.merge(other)


def _empty(meter: InformationMeter) -> InformationMeter:
    return InformationMeter(
        meter.num_classes,
        meter.dim,
        shrinkage=meter.shrinkage,
        embeddings=meter.embeddings,
        forgetting=meter.forgetting,
        memory_budget=meter.memory_budget,
    )
