"""Keep the states of all classes within a memory budget: exact as long as they fit, then sketches."""

from bisect import bisect_right
from collections.abc import Callable, Iterable

from bisector.errors import require
from bisector.information.class_state import ClassState, sketch_bytes

_MARGIN = 0.9  # of the room is filled when sketches shrink, so that they need not shrink again at once
_STEP = 0.8  # they shrink at least by this factor, since each time costs an eigendecomposition a class


def fit(states: Iterable[ClassState], dim: int, room: int, size: int | None) -> int | None:
    """Bring the bytes of all states below `room`; return the size of the sketches now, None if there are none.

    First the rows that wait are folded into the scatter matrices that are there. Then the classes that hold
    most get sketches, all of one size, the largest that makes everything fit: classes that are smaller than
    such a sketch stay exact, whatever their number.

    Args:
        states: of all classes; changed in place.
        dim: p.
        room: bytes, at least those of sketches of size 1 for all classes.
        size: of the sketches so far, None if there are none.

    >>> import torch
    >>> small, large = ClassState(dim=64), ClassState(dim=64)
    >>> small.append(torch.randn(2, 64)), large.append(torch.randn(300, 64))
    (None, None)
    >>> fit([small, large], dim=64, room=20_000, size=None), small.form, large.form
    (21, 'rows', 'sketch')
    """
    states = list(states)
    if size is not None:
        _sketch(states, dim, size)
    if _bytes(states) <= room:
        return size
    for state in states:
        if state.form != "rows":
            state.fold()
    if _bytes(states) <= room:
        return size
    held = [state.nbytes for state in states]

    def needed(size: int) -> int:
        return sum(min(nbytes, sketch_bytes(size, dim)) for nbytes in held)

    largest = dim if size is None else max(1, int(size * _STEP))
    found = max(1, bisect_right(range(1, largest + 1), _MARGIN * room, key=needed))
    _sketch(states, dim, found)
    return found


def require_budget(
    budget: int | None,
    needed: Callable[[int], int],
    dim: int,
) -> None:
    """Raise `ArgumentError` if `needed(dim)` bytes break the budget, naming the dimension that would fit.

    Args:
        budget: Bytes; None for no limit.
        needed: Bytes as a function of the dimension, which it must not fall with.
        dim: The dimension asked for.

    >>> require_budget(1000, lambda dim: 8 * dim * dim, dim=12)
    Traceback (most recent call last):
    bisector.errors.ArgumentError: memory_budget: got 1,000 bytes; expected at least the 1,152 bytes \
that these classes need at dimension 12, or embeddings of dimension 11 or less
    """
    if budget is None or needed(dim) <= budget:
        return
    fits = bisect_right(range(1, dim), budget, key=needed)
    remedy = f"embeddings of dimension {fits} or less" if fits else "fewer classes: no dimension fits"
    needs = f"at least the {needed(dim):,} bytes that these classes need at dimension {dim}"
    require(False, "memory_budget", f"{budget:,} bytes", f"{needs}, or {remedy}")


def _sketch(states: Iterable[ClassState], dim: int, size: int) -> None:
    for state in states:
        if state.nbytes > sketch_bytes(size, dim):
            state.sketch(size)


def _bytes(states: Iterable[ClassState]) -> int:
    return sum(state.nbytes for state in states)
