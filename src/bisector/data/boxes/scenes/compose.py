"""The pixels of a planned picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bisector.data.boxes.scenes.backgrounds import Photograph, crop
from bisector.data.boxes.scenes.cutouts import Cutout, posed
from bisector.data.boxes.scenes.plan import Plan


def compose(
    plan: Plan,
    photographs: Sequence[Photograph],
    cutouts: Sequence[Sequence[Cutout]],  # of each class
    size: int,
) -> NDArray[np.uint8]:  # (size, size, 3)
    """Paste the objects of a plan on its background, one after the other."""
    which, *draws = plan.background
    edge, left, top, mirror = draws
    canvas = crop(photographs[int(which * len(photographs))], size, (edge, left, top, mirror))
    for placed in plan.placed:
        cutout = cutouts[placed.label - 1][placed.cutout]
        image = posed(cutout, placed.longest, placed.angle, placed.flip)
        canvas.paste(_lit(image, placed.brightness), (placed.left, placed.top), image.getchannel("A"))
    return np.array(canvas)


def _lit(image: Any, brightness: float) -> Any:
    table = [min(round(value * brightness), 255) for value in range(256)]
    return image.convert("RGB").point(3 * table)
