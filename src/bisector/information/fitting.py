"""Make what a meter holds fit into a memory budget: exact forms as long as they fit, then sketches."""

from bisect import bisect_right
from collections.abc import Iterable

from bisector.information.holding import Holding, sketch_bytes

_MARGIN = 0.9  # of the room is filled when sketches shrink, so that they need not shrink again at once
_STEP = 0.8  # they shrink at least by this factor, since each time costs an eigendecomposition a class


def fit(holdings: Iterable[Holding], dim: int, room: int, size: int | None) -> int | None:
    """Bring the bytes of all holdings below `room`.

    First the rows that wait are folded into the scatter matrices that are there. Then the classes that hold
    most get sketches, all of one size, the largest that makes everything fit: classes that are smaller than
    such a sketch stay exact, whatever their number.

    Args:
        holdings: of all classes; changed in place.
        dim: p.
        room: bytes, at least those of sketches of size 1 for all classes.
        size: of the sketches so far, None if there are none.

    Returns:
        The size of the sketches now, None if there are none.

    >>> import torch
    >>> small, large = Holding(dim=64), Holding(dim=64)
    >>> small.append(torch.randn(2, 64)), large.append(torch.randn(300, 64))
    (None, None)
    >>> fit([small, large], dim=64, room=20_000, size=None), small.form, large.form
    (21, 'rows', 'sketch')
    """
    holdings = list(holdings)
    if size is not None:
        _sketch(holdings, dim, size)
    if _bytes(holdings) <= room:
        return size
    for holding in holdings:
        if holding.form != "rows":
            holding.fold()
    held = [holding.nbytes for holding in holdings]
    if sum(held) <= room:
        return size

    def needed(size: int) -> int:
        return sum(min(nbytes, sketch_bytes(size, dim)) for nbytes in held)

    largest = dim if size is None else max(1, int(size * _STEP))
    found = max(1, bisect_right(range(1, largest + 1), _MARGIN * room, key=needed))
    _sketch(holdings, dim, found)
    return found


def _sketch(holdings: list[Holding], dim: int, size: int) -> None:
    for holding in holdings:
        if holding.nbytes > sketch_bytes(size, dim):
            holding.sketch(size)


def _bytes(holdings: list[Holding]) -> int:
    return sum(holding.nbytes for holding in holdings)
