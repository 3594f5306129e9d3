"""Several processes, one measurement: each feeds a meter of its own, and these are merged when asked."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, distributed

from bisector.errors import require
from bisector.information.exchange import Exchange, from_bytes, to_bytes
from bisector.information.meter import InformationMeter
from bisector.information.reading import ClassInformation
from bisector.information.rows import EMBEDDING_SCALES
from bisector.statistics.shrinkage import SHRINKAGES

# What a process sends at a time, about; several such copies of it exist for a moment.
ROUND_BYTES = 2**28

_WORDS: tuple[str | None, ...] = (None, *SHRINKAGES, "rows", "scatter", "sketch")


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
    link = Exchange(group)
    largest = max(_sizes(meter, link))
    part = _own_classes(meter, link, rounds=_rounds(largest))
    info = None
    with link.attempt():
        info = part.compute(ranks=ranks)
        numbers = _numbers(info, range(link.rank, meter.num_classes, link.world))
    link.agree()
    assert info is not None
    told = link.gather(_padded(numbers, -(-meter.num_classes // link.world)))
    # The n-th class of rank r is r + n world.
    return _with_numbers(info, told.transpose(0, 1).flatten(0, 1)[: meter.num_classes])


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
    link = Exchange(group)
    sizes = _sizes(meter, link)
    part = _own_classes(meter, link, rounds=_rounds(max(sizes)))
    rounds = _rounds(sum(sizes))  # all go to one
    for number in range(rounds):
        parcels = link.no_parcels()
        with link.attempt():
            if link.rank > 0:
                parcels[0] = _packed(part, link.rank, link.world, number, rounds, with_skipped=False)
        received = link.swap(parcels)
        with link.attempt():
            _merge_all(part, received)
    link.agree()
    return part if link.rank == 0 else None


def _sizes(meter: InformationMeter, link: Exchange) -> list[int]:
    """Return the bytes that each process's meter holds; see first that all measure the same."""
    budget = meter.memory_budget
    mine: dict[str, float] = {
        "num_classes": meter.num_classes,
        "dim": meter.dim,
        "embeddings": EMBEDDING_SCALES.index(meter.embeddings),
        "shrinkage": list(SHRINKAGES).index(meter.shrinkage),
        "forgetting": meter.forgetting,
        "memory_budget": -1 if budget is None else budget,
    }
    numbers = torch.tensor([*mine.values(), meter.nbytes], dtype=torch.float64, device="cpu")
    *options, sizes = link.gather(numbers).t().tolist()
    for name, values in zip(mine, options, strict=True):
        odd = next((rank for rank, value in enumerate(values) if value != values[0]), 0)
        got = f"{name} {_spelled(name, values[odd])} on rank {odd} and {_spelled(name, values[0])} on rank 0"
        require(odd == 0, "meter", got, "the same on all processes")
    return [int(size) for size in sizes]


def _spelled(name: str, value: float) -> str:
    names: Sequence[str] = {"embeddings": EMBEDDING_SCALES, "shrinkage": tuple(SHRINKAGES)}.get(name, ())
    if names:
        return repr(names[int(value)])
    return "None" if value < 0 else f"{value:.15g}"


def _rounds(size: int) -> int:
    return max(1, -(-size // ROUND_BYTES))


def _own_classes(meter: InformationMeter, link: Exchange, rounds: int) -> InformationMeter:
    """Return a meter with what all processes hold of the classes rank, rank + world, ... of this one."""
    part = _empty(meter)
    for number in range(rounds):
        parcels = link.no_parcels()
        with link.attempt():
            parcels = [
                _packed(meter, rank, link.world, number, rounds, with_skipped=number == 0)
                for rank in range(link.world)
            ]
        received = link.swap(parcels)
        with link.attempt():
            _merge_all(part, received)
    return part


def _packed(
    meter: InformationMeter, rank: int, world: int, number: int, rounds: int, *, with_skipped: bool
) -> Tensor:
    """Return this round's share of the classes that are the work of `rank`."""
    state = meter.state_dict(classes=range(rank + number * world, meter.num_classes, world * rounds))
    if not with_skipped:  # which is not by class, and told once
        state["skipped"] = 0
    return to_bytes(state)


def _merge_all(meter: InformationMeter, received: list[Tensor]) -> None:
    for parcel in received:
        if len(parcel):  # a process that failed sends nothing
            other = _empty(meter)
            other.load_state_dict(from_bytes(parcel))
            meter.merge(other)


def _empty(meter: InformationMeter) -> InformationMeter:
    return InformationMeter(
        meter.num_classes,
        meter.dim,
        shrinkage=meter.shrinkage,
        embeddings=meter.embeddings,
        forgetting=meter.forgetting,
        memory_budget=meter.memory_budget,
    )


def _numbers(info: ClassInformation, classes: range) -> Tensor:
    """Return what is known of some classes as numbers: (classes, fields) float64."""
    columns = []
    for field in fields(info):
        values = getattr(info, field.name)
        if isinstance(values, Tensor):
            columns.append(values[classes.start :: classes.step].to(torch.float64))
        elif isinstance(values, tuple):
            codes = [_WORDS.index(values[c]) for c in classes]
            columns.append(torch.tensor(codes, dtype=torch.float64, device="cpu"))
    return torch.stack(columns, dim=1)


def _with_numbers(info: ClassInformation, numbers: Tensor) -> ClassInformation:
    """Return `info` with the numbers of all classes, (C, fields), in place of what it knew of some."""
    known: dict[str, Any] = {}
    columns = iter(numbers.unbind(dim=1))
    for field in fields(info):
        values = getattr(info, field.name)
        if isinstance(values, Tensor):
            known[field.name] = next(columns).to(values.dtype)
        elif isinstance(values, tuple):
            known[field.name] = tuple(_WORDS[int(code)] for code in next(columns).tolist())
    return replace(info, **known)


def _padded(numbers: Tensor, length: int) -> Tensor:
    return torch.cat([numbers, numbers.new_zeros(length - len(numbers), numbers.shape[1])])
