"""What is held of many classes as a handful of tensors, to be stored or sent."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bisector.errors import require
from bisector.information.holding import Holding
from bisector.statistics.moments import Moments
from bisector.statistics.scatter import Factor, Packed, packed_size
from bisector.statistics.sketch import Sketch

PackedTensors = dict[str, Tensor]
Means = dict[int, tuple[float, Tensor]]

_KINDS = (Factor, Packed, Sketch)
_NUMBERS = 8  # of a class's moments: see `_numbers`


def pack_means(means: Means, dim: int) -> PackedTensors:
    """The counts and the means (p,) of L classes: `classes` (L,), `counts` (L,) and `means` (L, p)."""
    return {
        "classes": torch.tensor(list(means), dtype=torch.long, device="cpu"),
        "counts": torch.tensor([count for count, _ in means.values()], dtype=torch.float64, device="cpu"),
        "means": _stacked((mean.unsqueeze(0) for _, mean in means.values()), dim, torch.float64),
    }


def unpack_means(packed: PackedTensors, num_classes: int, dim: int) -> Means:
    """The inverse of `pack_means`, with its errors as those of `unpack_holdings`."""
    known = len(packed.get("classes", ()))
    require_shapes(packed, {"classes": (known,), "counts": (known,), "means": (known, dim)})
    classes, counts = _classes(packed["classes"], num_classes), packed["counts"].tolist()
    require(all(count > 0 for count in counts), "counts", counts, "numbers above 0")
    means = [mean.to("cpu", torch.float64, copy=True) for mean in packed["means"]]
    return dict(zip(classes, zip(counts, means, strict=True), strict=True))


def pack_holdings(holdings: Mapping[int, Holding], dim: int) -> dict[str, PackedTensors]:
    """The holdings of L classes as tensors; `unpack_holdings` gives them back, to the last bit.

    Returns:
        `rows32` and `rows64`: the rows that wait, by dtype: `classes`, how many each has, `counts`, and `rows`.
        `moments`: `classes` (L,), `numbers` (L, 8), `means` and `thirds` (L, p), and the scatters: for each
        class its `kinds` and how many `rows` it has, and these as `factors`, `packed` or `sketches`, one
        class after another.

    >>> holding = Holding(dim=3)
    >>> holding.append(torch.tensor([[1.0, 2.0, 0.0]]))
    >>> pack_holdings({7: holding}, dim=3)["rows32"]["rows"]
    tensor([[1., 2., 0.]])
    """
    waiting = {c: torch.cat(h.rows) for c, h in holdings.items() if h.rows}
    moments = {c: h.moments for c, h in holdings.items() if h.moments is not None}
    scatters = [m.scatter for m in moments.values()]
    return {
        "rows32": _pack_rows(waiting, dim, torch.float32),
        "rows64": _pack_rows(waiting, dim, torch.float64),
        "moments": {
            "classes": torch.tensor(list(moments), dtype=torch.long, device="cpu"),
            "numbers": _stacked(
                (_numbers(m).unsqueeze(0) for m in moments.values()), _NUMBERS, torch.float64
            ),
            "means": _stacked((m.mean.unsqueeze(0) for m in moments.values()), dim, torch.float64),
            "thirds": _stacked((m.third.unsqueeze(0) for m in moments.values()), dim, torch.float64),
            "kinds": torch.tensor([_KINDS.index(type(s)) for s in scatters], dtype=torch.long, device="cpu"),
            "rows": torch.tensor([_rows_of(s) for s in scatters], dtype=torch.long, device="cpu"),
            "factors": _stacked((s.factor for s in scatters if isinstance(s, Factor)), dim, torch.float64),
            "packed": _stacked(
                (s.values.unsqueeze(0) for s in scatters if isinstance(s, Packed)),
                packed_size(dim),
                torch.float64,
            ),
            "sketches": _stacked((s.sketch for s in scatters if isinstance(s, Sketch)), dim, torch.float32),
        },
    }


def unpack_holdings(packed: Mapping[str, PackedTensors], num_classes: int, dim: int) -> dict[int, Holding]:
    """The inverse of `pack_holdings`.

    Args:
        packed: What `pack_holdings` returned.
        num_classes: Above every class.
        dim: The dimension p.

    Raises:
        ArgumentError: if a tensor is missing or one too many, or shapes or values do not belong together.

    >>> holding = Holding(dim=2)
    >>> holding.append(torch.eye(2))
    >>> unpack_holdings(pack_holdings({3: holding}, dim=2), num_classes=4, dim=2)[3].count
    2.0
    """
    holdings = _unpack_moments(packed["moments"], num_classes, dim)
    for name, dtype in (("rows32", torch.float32), ("rows64", torch.float64)):
        part = packed[name]
        known = len(part.get("classes", ()))
        counts = part["counts"].tolist() if "counts" in part else []
        require_shapes(part, {"classes": (known,), "counts": (known,), "rows": (sum(counts), dim)})
        require(all(n > 0 for n in counts), "counts", counts, "numbers above 0")
        classes = _classes(part["classes"], num_classes)
        for c, rows in zip(classes, torch.split(part["rows"], counts), strict=True):
            holding = holdings.setdefault(c, Holding(dim))
            require(not holding.rows, "classes", c, "each class in one of rows32 and rows64")
            holding.rows, holding.waiting = [rows.to("cpu", dtype, copy=True)], len(rows)
    return holdings


def require_shapes(packed: PackedTensors, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise `ArgumentError` unless `packed` holds exactly these tensors."""
    require(packed.keys() == shapes.keys(), "state", sorted(packed), f"the tensors {', '.join(shapes)}")
    for name, shape in shapes.items():
        require(packed[name].shape == shape, name, f"shape {tuple(packed[name].shape)}", f"shape {shape}")


def _pack_rows(waiting: Mapping[int, Tensor], dim: int, dtype: torch.dtype) -> PackedTensors:
    chosen = {c: rows for c, rows in waiting.items() if rows.dtype == dtype}
    return {
        "classes": torch.tensor(list(chosen), dtype=torch.long, device="cpu"),
        "counts": torch.tensor([len(rows) for rows in chosen.values()], dtype=torch.long, device="cpu"),
        "rows": _stacked(chosen.values(), dim, dtype),
    }


def _numbers(moments: Moments) -> Tensor:
    own = [moments.count, moments.fourth, moments.third_error, moments.fourth_error]
    scatter = moments.scatter
    if isinstance(scatter, Sketch):
        own += [float(scatter.size), scatter.trace, scatter.missing, scatter.rounding]
    elif isinstance(scatter, Packed):
        own += [float(scatter.single)]
    return torch.tensor([*own, *[0.0] * (_NUMBERS - len(own))], dtype=torch.float64, device="cpu")


def _rows_of(scatter: Factor | Packed | Sketch) -> int:
    if isinstance(scatter, Packed):
        return 0
    return len(scatter.factor if isinstance(scatter, Factor) else scatter.sketch)


def _unpack_moments(packed: PackedTensors, num_classes: int, dim: int) -> dict[int, Holding]:
    known = len(packed.get("classes", ()))
    kinds = packed["kinds"].tolist() if "kinds" in packed else []
    rows = packed["rows"].tolist() if "rows" in packed else []
    require(all(k in range(len(_KINDS)) for k in kinds), "kinds", kinds, f"from 0 to {len(_KINDS) - 1}")
    require(all(n >= 0 for n in rows), "rows", rows, "numbers of at least 0")
    totals = [sum(n for k, n in zip(kinds, rows, strict=False) if k == kind) for kind in range(len(_KINDS))]
    require_shapes(
        packed,
        {
            "classes": (known,),
            "numbers": (known, _NUMBERS),
            "means": (known, dim),
            "thirds": (known, dim),
            "kinds": (known,),
            "rows": (known,),
            "factors": (totals[0], dim),
            "packed": (kinds.count(1), packed_size(dim)),
            "sketches": (totals[2], dim),
        },
    )
    numbers = packed["numbers"].tolist()
    require(all(n[0] > 0 for n in numbers), "numbers", [n[0] for n in numbers], "counts above 0")
    holdings = {}
    at = [0, 0, 0]
    for i, c in enumerate(_classes(packed["classes"], num_classes)):
        kind, count = kinds[i], 1 if kinds[i] == 1 else rows[i]
        stored = packed[("factors", "packed", "sketches")[kind]][at[kind] : at[kind] + count]
        at[kind] += count
        count_, fourth, third_error, fourth_error, *sketch = numbers[i]
        moments = Moments(
            count=count_,
            mean=packed["means"][i].to("cpu", torch.float64, copy=True),
            scatter=_scatter(kind, stored, dim, sketch),
            third=packed["thirds"][i].to("cpu", torch.float64, copy=True),
            fourth=fourth,
            third_error=third_error,
            fourth_error=fourth_error,
        )
        holdings[c] = Holding(dim, moments)
    return holdings


def _scatter(kind: int, stored: Tensor, dim: int, numbers: list[float]) -> Factor | Packed | Sketch:
    if kind == 0:
        return Factor(stored.to("cpu", torch.float64, copy=True))
    if kind == 1:
        return Packed(dim, stored[0].to("cpu", torch.float64, copy=True), single=bool(numbers[0]))
    require(numbers[0] >= 1, "numbers", numbers[0], "a sketch of at least 1 row")
    sketch = Sketch(dim, int(numbers[0]))
    sketch.sketch = stored.to("cpu", torch.float32, copy=True)
    sketch.trace, sketch.missing, sketch.rounding = numbers[1:4]
    return sketch


def _classes(classes: Tensor, num_classes: int) -> list[int]:
    numbers: list[int] = classes.tolist()
    legal = len(set(numbers)) == len(numbers) and all(c in range(num_classes) for c in numbers)
    require(legal, "classes", numbers, f"distinct integers from 0 to {num_classes - 1}")
    return numbers


def _stacked(parts: Iterable[Tensor], width: int, dtype: torch.dtype) -> Tensor:
    return torch.cat([torch.empty(0, width, dtype=dtype, device="cpu"), *parts])
