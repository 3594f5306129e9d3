"""A detection data set whose pictures are composed when they are asked for."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bisector.data.boxes import BoxSet, Picture
from scenes.backgrounds import Photograph, crop
from scenes.cutouts import Cutout, posed
from scenes.layout import Plan


class SceneSet(BoxSet):
    """One part of a scene set; `image` composes the picture, the same every time.

    Args:
        plans: of the pictures, in their order.
        class_names: of label 1, 2, ... C.
        name: of the set.
        part: train, validation or test.
        first_id: of the first picture; those of all parts are different.
        size: edge of a picture in pixels.
        cutouts: of each class.
        photographs: the backgrounds.
        frequency: (C,) of "r", "c", "f", from the training part.
        left_out: lines for people: what could not be used.
    """

    composed = True  # the page of a detector says so

    def __init__(
        self,
        plans: Sequence[Plan],
        class_names: Sequence[str],
        *,
        name: str,
        part: str,
        first_id: int = 1,
        size: int,
        cutouts: Sequence[Sequence[Cutout]],
        photographs: Sequence[Photograph],
        frequency: Sequence[str] | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        pictures, first = [], 1
        for number, plan in enumerate(plans, 1):
            picture = _picture(first_id + number - 1, f"{part}/{number:06d}", size, plan, first)
            pictures.append(picture)
            first += len(picture.labels)
        super().__init__(pictures, class_names, name=name, frequency=frequency, left_out=left_out)
        self.plans: dict[int | str, Plan] = dict(enumerate(plans, first_id))
        self.size = size
        self._cutouts = cutouts
        self._photographs = photographs

    def image(self, index: int) -> Tensor:  # (3, size, size) uint8, RGB
        """Compose a picture."""
        pixels = compose(self.plans[self[index].id], self._photographs, self._cutouts, self.size)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def fingerprint(self) -> str:
        """A digest of the plans, the cutouts and the backgrounds, all that the pixels are a function of."""
        digest = hashlib.sha256(super().fingerprint().encode())
        digest.update(repr([self.plans[picture.id] for picture in self]).encode())
        for pixels in (*(cutout for each in self._cutouts for cutout in each), *self._photographs):
            digest.update(f"{pixels.shape}".encode())
            digest.update(pixels.tobytes())
        return digest.hexdigest()[:16]


def _picture(number: int, file: str, size: int, plan: Plan, first: int) -> Picture:
    labels = torch.tensor([placed.label for placed in plan.placed], dtype=torch.long)
    return Picture(
        id=number,
        file=file,
        width=size,
        height=size,
        boxes=torch.tensor(plan.boxes, dtype=torch.float32).reshape(-1, 4),
        labels=labels,
        ids=torch.arange(first, first + len(labels)),
        crowd=torch.zeros(len(labels), dtype=torch.bool),
        areas=torch.tensor(plan.areas, dtype=torch.float32),
    )


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
