"""The moments of many classes as a handful of tensors, to be stored or sent."""

import torch
from torch import Tensor

from bisector.errors import require
from bisector.statistics.moments import Moments

Packed = dict[str, Tensor]
Means = dict[int, tuple[float, Tensor]]


def pack_means(means: Means, dim: int) -> Packed:
    """The counts and the means (p,) of L classes: `classes` (L,), `counts` (L,) and `means` (L, p)."""
    return {
        "classes": torch.tensor(list(means), dtype=torch.long, device="cpu"),
        "counts": torch.tensor([count for count, _ in means.values()], dtype=torch.float64, device="cpu"),
        "means": _stacked([mean.unsqueeze(0) for _, mean in means.values()], dim),
    }


def unpack_means(packed: Packed, num_classes: int, dim: int) -> Means:
    """The inverse of `pack_means`, with its errors as those of `unpack_moments`."""
    known = len(packed.get("classes", ()))
    require_shapes(packed, {"classes": (known,), "counts": (known,), "means": (known, dim)})
    classes, counts = packed["classes"].tolist(), packed["counts"].tolist()
    legal = len(set(classes)) == known and all(c in range(num_classes) for c in classes)
    require(legal, "classes", classes, f"distinct integers from 0 to {num_classes - 1}")
    require(all(count > 0 for count in counts), "counts", counts, "numbers above 0")
    means = [_own(mean) for mean in packed["means"]]
    return dict(zip(classes, zip(counts, means, strict=True), strict=True))


def pack_moments(moments: dict[int, Moments], dim: int) -> Packed:
    """The moments of L classes as seven tensors; `unpack_moments` gives them back, to the last bit.

    Args:
        moments: The moments by class.
        dim: Their dimension p.

    Returns:
        What `pack_means` returns, with `thirds` (L, p), `fourths` (L,), the number of rows that each
        scatter has, `rows` (L,), and these rows, one class after another, `scatters` (sum of rows, p).

    >>> packed = pack_moments({3: Moments.of_rows(torch.tensor([[1.0, 2.0, 0.0], [3.0, 6.0, 0.0]]))}, dim=3)
    >>> packed["classes"], packed["scatters"]
    (tensor([3]), tensor([[1.4142, 2.8284, 0.0000]], dtype=torch.float64))
    """
    held = moments.values()
    return {
        **pack_means({c: (m.count, m.mean) for c, m in moments.items()}, dim),
        "thirds": _stacked([m.third.unsqueeze(0) for m in held], dim),
        "fourths": torch.tensor([m.fourth for m in held], dtype=torch.float64, device="cpu"),
        "rows": torch.tensor([len(m.scatter) for m in held], dtype=torch.long, device="cpu"),
        "scatters": _stacked([m.scatter for m in held], dim),
    }


def unpack_moments(packed: Packed, num_classes: int, dim: int) -> dict[int, Moments]:
    """The inverse of `pack_moments`.

    Args:
        packed: What `pack_moments` returned.
        num_classes: Above every class.
        dim: The dimension p.

    Raises:
        ArgumentError: if a tensor is missing or one too many, or shapes or values do not belong together.

    >>> rows = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    >>> packed = pack_moments({3: Moments.of_rows(rows)}, dim=2)
    >>> unpack_moments(packed, num_classes=4, dim=2)[3].mean
    tensor([2., 4.], dtype=torch.float64)
    """
    means = unpack_means(
        {k: v for k, v in packed.items() if k in {"classes", "counts", "means"}}, num_classes, dim
    )
    rest = {k: v for k, v in packed.items() if k not in {"classes", "counts", "means"}}
    rows = rest["rows"].tolist() if "rows" in rest else []
    known = len(means)
    require_shapes(
        rest,
        {"thirds": (known, dim), "fourths": (known,), "rows": (known,), "scatters": (sum(rows), dim)},
    )
    require(all(k in range(dim + 1) for k in rows), "rows", rows, f"integers from 0 to {dim}")
    thirds, scatters = map(_own, rest["thirds"]), map(_own, torch.split(rest["scatters"], rows))
    return {
        c: Moments(count=count, mean=mean, scatter=scatter, third=third, fourth=fourth)
        for (c, (count, mean)), scatter, third, fourth in zip(
            means.items(), scatters, thirds, rest["fourths"].tolist(), strict=True
        )
    }


def require_shapes(packed: Packed, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise `ArgumentError` unless `packed` holds exactly these tensors."""
    require(packed.keys() == shapes.keys(), "state", sorted(packed), f"the tensors {', '.join(shapes)}")
    for name, shape in shapes.items():
        require(packed[name].shape == shape, name, f"shape {tuple(packed[name].shape)}", f"shape {shape}")


def _stacked(parts: list[Tensor], dim: int) -> Tensor:
    return torch.cat([torch.empty(0, dim, dtype=torch.float64, device="cpu"), *parts])


def _own(values: Tensor) -> Tensor:
    """A copy: a view would keep the tensors of all classes alive as long as one class is."""
    return values.to("cpu", torch.float64, copy=True)
