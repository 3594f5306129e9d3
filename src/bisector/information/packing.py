"""The states of many classes as a handful of tensors, to be stored or sent."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bisector.errors import require
from bisector.information.class_state import ClassState
from bisector.statistics.moments import Moments
from bisector.statistics.scatter import Packed, packed_size
from bisector.statistics.sketch import Sketch

PackedTensors = dict[str, Tensor]
Means = dict[int, tuple[float, Tensor]]

_NUMBERS = 8  # of a class: see `_numbers`


def pack_means(means: Means, dim: int) -> PackedTensors:
    """The counts and the means (p,) of L classes: `classes` (L,), `counts` (L,) and `means` (L, p)."""
    return {
        "classes": torch.tensor(list(means), dtype=torch.long, device="cpu"),
        "counts": torch.tensor([count for count, _ in means.values()], dtype=torch.float64, device="cpu"),
        "means": _joined((mean[None] for _, mean in means.values()), dim, torch.float64),
    }


def unpack_means(packed: PackedTensors, num_classes: int, dim: int) -> Means:
    """The inverse of `pack_means`; an `ArgumentError` where tensors are not what belongs together."""
    known = len(packed.get("classes", ()))
    require_shapes(packed, {"classes": (known,), "counts": (known,), "means": (known, dim)})
    classes, counts = _classes(packed["classes"], num_classes), packed["counts"].tolist()
    require(all(count > 0 for count in counts), "counts", counts, "numbers above 0")
    means = packed["means"].to("cpu", torch.float64, copy=True)
    return dict(zip(classes, zip(counts, means, strict=True), strict=True))


def pack_states(states: Mapping[int, ClassState], dim: int) -> PackedTensors:
    """The states of L classes as tensors; `unpack_states` gives them back, to the last bit.

    Returns:
        `classes` (L,); `sizes` (L, 4), of each class the number of its `rows`, whether they are float64, and how
        many it has in `packed` and in `sketches`, where those of one class follow those of another; `weights` of
        the rows; `numbers` (L, 8); and `means` and `thirds` of the classes with sums.
    """
    nothing = torch.empty(0, dim, device="cpu"), None
    waiting = [state.waiting() if state.rows else nothing for state in states.values()]
    rows = [own for own, _ in waiting]
    weights = [torch.ones(len(own), device="cpu") if given is None else given for own, given in waiting]
    moments = [state.moments for state in states.values()]
    scatters = [one and one.scatter for one in moments]
    packed = [one.values[None] for one in scatters if isinstance(one, Packed)]
    sketches = [one.sketch for one in scatters if isinstance(one, Sketch)]
    sizes = [
        (
            len(own),
            own.dtype == torch.float64,
            isinstance(scatter, Packed),
            len(scatter.sketch) if isinstance(scatter, Sketch) else 0,
        )
        for own, scatter in zip(rows, scatters, strict=True)
    ]
    return {
        "classes": torch.tensor(list(states), dtype=torch.long, device="cpu"),
        "sizes": torch.tensor(sizes, dtype=torch.long, device="cpu").view(-1, 4),
        "numbers": _joined(map(_numbers, moments), _NUMBERS, torch.float64),
        "weights": torch.cat([torch.empty(0, dtype=torch.float64, device="cpu"), *weights]),
        "rows": _joined(rows, dim, torch.float32),  # float64 where those of a class are
        "packed": _joined(packed, packed_size(dim), torch.float64),
        "sketches": _joined(sketches, dim, torch.float32),
        "means": _joined((one.mean[None] for one in moments if one), dim, torch.float64),
        "thirds": _joined((one.third[None] for one in moments if one), dim, torch.float64),
    }


def unpack_states(packed: PackedTensors, num_classes: int, dim: int) -> dict[int, ClassState]:
    """The inverse of `pack_states`; an `ArgumentError` where tensors are not what belongs together."""
    known = len(packed.get("classes", ()))
    empty = torch.empty(0, device="cpu")
    sizes, numbers = packed.get("sizes", empty), packed.get("numbers", empty)
    fits = sizes.shape == (known, 4) and numbers.shape == (known, _NUMBERS)
    totals = sizes.sum(dim=0).tolist() if fits else [0] * 4
    summed = int((numbers[:, 0] != 0).sum()) if fits else 0
    shapes: dict[str, tuple[int, ...]] = {
        "classes": (known,),
        "sizes": (known, 4),
        "numbers": (known, _NUMBERS),
        "weights": (totals[0],),
        "rows": (totals[0], dim),
        "packed": (totals[2], packed_size(dim)),
        "sketches": (totals[3], dim),
        "means": (summed, dim),
        "thirds": (summed, dim),
    }
    require_shapes(packed, shapes)
    legal = bool((sizes >= 0).all()) and bool((sizes[:, 2] <= 1).all())
    require(legal, "sizes", sizes.tolist(), "numbers of at least 0, and of packed ones 0 or 1")
    require(bool((numbers[:, 0] >= 0).all()), "numbers", numbers[:, 0].tolist(), "counts of at least 0")
    require(bool((packed["weights"] > 0).all()), "weights", packed["weights"].tolist(), "numbers above 0")
    taken = dict.fromkeys(packed, 0)

    def take(name: str, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
        start = taken[name]
        taken[name] += count
        return packed[name][start : taken[name]].to("cpu", dtype, copy=True)

    states = {}
    for c, size, own in zip(
        _classes(packed["classes"], num_classes), sizes.tolist(), numbers.tolist(), strict=True
    ):
        state = states[c] = ClassState(dim)
        if own[0]:
            kept = take("packed", 1)[0] if size[2] else take("sketches", size[3], torch.float32)
            mean, third = take("means", 1)[0], take("thirds", 1)[0]
            scatter = Packed(dim, kept, single=bool(own[4])) if size[2] else _sketch(dim, kept, own)
            state.moments = Moments(own[0], mean, scatter, third, *own[1:4])
        if size[0]:
            rows = take("rows", size[0], torch.float64 if size[1] else torch.float32)
            weights, runs = torch.unique_consecutive(take("weights", size[0]), return_counts=True)
            state.extend(torch.split(rows, runs.tolist()), weights.tolist())
    return states


def require_shapes(packed: PackedTensors, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `ArgumentError` unless `packed` holds exactly these tensors."""
    require(packed.keys() == shapes.keys(), "state", sorted(packed), f"the tensors {', '.join(shapes)}")
    for name, shape in shapes.items():
        require(packed[name].shape == shape, name, f"shape {tuple(packed[name].shape)}", f"shape {shape}")


def _numbers(moments: Moments | None) -> Tensor:
    numbers = torch.zeros(1, _NUMBERS, dtype=torch.float64, device="cpu")
    if moments is not None:
        scatter = moments.scatter
        own = [moments.count, moments.fourth, moments.third_error, moments.fourth_error]
        if isinstance(scatter, Sketch):
            own += [scatter.size, scatter.trace, scatter.missing, scatter.rounding]
        else:
            own += [scatter.single, 0, 0, 0]
        numbers[0] = torch.tensor(own, dtype=torch.float64, device="cpu")
    return numbers


def _sketch(dim: int, rows: Tensor, numbers: list[float]) -> Sketch:
    require(numbers[4] >= 1, "numbers", numbers[4], "a sketch of at least 1 row")
    sketch = Sketch(dim, int(numbers[4]))
    sketch.sketch = rows
    sketch.trace, sketch.missing, sketch.rounding = numbers[5:]
    return sketch


def _classes(classes: Tensor, num_classes: int) -> list[int]:
    numbers: list[int] = classes.tolist()
    legal = len(set(numbers)) == len(numbers) and all(c in range(num_classes) for c in numbers)
    require(legal, "classes", numbers, f"distinct integers from 0 to {num_classes - 1}")
    return numbers


def _joined(parts: Iterable[Tensor], width: int, dtype: torch.dtype) -> Tensor:
    return torch.cat([torch.empty(0, width, dtype=dtype, device="cpu"), *parts])
