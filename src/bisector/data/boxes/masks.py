"""The box around a mask, for files that have masks alone."""

import math
from itertools import chain
from typing import Any

from bisector.data.boxes.values import number
from bisector.errors import missing_extra

_SIDES = 2


def box_around(mask: object) -> list[float] | None:
    """Box (x, y, width, height) of a mask as COCO's files have it; None where it holds none.

    A polygon's box goes through its outermost points, as in COCO's own files; that of a run-length encoding, also
    a compressed one, around its pixels.

    Args:
        mask: polygons [[x1, y1, x2, y2, ...], ...], one such polygon, or {"size": [height, width], "counts": ...}.

    >>> box_around([[2, 3, 12, 3, 12, 8], [1, 4, 2, 4, 2, 5]])
    [1.0, 3.0, 11.0, 5.0]
    >>> box_around({"size": [4, 5], "counts": [5, 2, 2, 2, 9]})
    [1.0, 1.0, 2.0, 2.0]
    """
    if isinstance(mask, dict):
        return _around_runs(mask)
    polygons = mask if isinstance(mask, list) else []
    if polygons and not isinstance(polygons[0], list):
        polygons = [polygons]
    if not all(isinstance(polygon, list) and len(polygon) % _SIDES == 0 for polygon in polygons):
        return None
    points = list(map(number, chain.from_iterable(polygons)))
    if not points or not all(map(math.isfinite, points)):
        return None
    (left, right), (top, bottom) = ((min(side), max(side)) for side in (points[::_SIDES], points[1::_SIDES]))
    return [left, top, right - left, bottom - top]


def _around_runs(mask: dict[str, Any]) -> list[float] | None:
    try:
        from faster_coco_eval import mask as masks
    except ImportError:
        raise missing_extra("faster-coco-eval", "detection") from None
    size, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(size, list) and len(size) == _SIDES and all(number(side) >= 1 for side in size)):
        return None
    height, width = (int(number(side)) for side in size)
    try:
        if isinstance(counts, list):
            mask = masks.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        else:
            mask = {"size": [height, width], "counts": str(counts).encode("ascii")}
        x, y, across, down = (float(value) for value in masks.toBbox(mask))
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return None
    # Runs that are none end anywhere.
    return [x, y, across, down] if x + across <= width and y + down <= height else None
