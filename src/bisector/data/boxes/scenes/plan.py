"""What lies where in a picture, and which box holds what can be seen of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bisector.data.boxes.scenes.cutouts import SOLID, Cutout, extent, posed
from bisector.data.boxes.scenes.options import SceneOptions
from bisector.data.keyed import keyed_uniform

_TRIES = 12  # places that are tried for an object
_OF_POSE = 5  # draws for cutout, size, angle, mirror and brightness
_OF_BACKGROUND = 5  # draws for the photograph and its crop
_OF_OBJECT = _OF_POSE + 2 * _TRIES


@dataclass(frozen=True, slots=True)
class Placed:
    """An object in a picture: which cutout, how it is posed, and where its left upper corner lies."""

    label: int  # 1..C
    cutout: int  # of its class
    longest: int  # pixels
    angle: float
    flip: bool
    brightness: float
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A picture that can be composed; later objects cover earlier ones."""

    background: tuple[float, ...]  # draws
    placed: tuple[Placed, ...]
    boxes: tuple[tuple[int, int, int, int], ...]  # left, top, right, bottom of the visible pixels
    areas: tuple[int, ...]  # visible pixels


def draws_for(options: SceneOptions, seed: int, part: int, pictures: int) -> Tensor:
    """All that is random in the pictures of a part, a function of (seed, part, index): (pictures, numbers)."""
    numbers = _OF_BACKGROUND + options.most * _OF_OBJECT
    return keyed_uniform(seed, part, torch.arange(pictures), numbers, "scene")


def plan(
    labels: Sequence[int],
    draws: NDArray[np.float64],  # a row of `draws_for`
    cutouts: Sequence[Sequence[Cutout]],  # of each class
    usable: Sequence[Sequence[int]],  # of each class, the cutouts of this part
    options: SceneOptions,
) -> Plan:
    """Place objects one after the other, each wholly inside and where enough is seen of those below it.

    An object for which no such place is found in 12 tries is left out, which is rare.

    Args:
        labels: of the objects, 1..C.
        draws: numbers in [0, 1).
        cutouts: those of class c at position c - 1.
        usable: as many, positions in these.
        options: of the set.
    """
    size = options.size
    top = np.zeros((size, size), np.int16)  # which object is seen, from 1
    placed: list[Placed] = []
    seen: list[int] = []  # visible pixels of each object
    least: list[float] = []
    for label, numbers in zip(labels, draws[_OF_BACKGROUND:].reshape(-1, _OF_OBJECT), strict=False):
        which, length, turn, mirror, light = numbers[:_OF_POSE].tolist()
        cutout = usable[label - 1][int(which * len(usable[label - 1]))]
        longest = round(size * options.smallest * (options.largest / options.smallest) ** length)
        angle = round(options.rotation * (2 * turn - 1), 2)
        flip = options.flip and mirror < 0.5
        image = posed(cutouts[label - 1][cutout], longest, angle, flip)
        mask = np.asarray(image.getchannel("A")) >= SOLID
        height, width = mask.shape
        for across, down in numbers[_OF_POSE:].reshape(-1, 2).tolist():
            x, y = int(across * (size - width + 1)), int(down * (size - height + 1))
            window = top[y : y + height, x : x + width]
            covered = np.bincount(window[mask], minlength=len(placed) + 1)[1:].tolist()
            rest = [many - lost for many, lost in zip(seen, covered, strict=True)]
            if all(many >= bound for many, bound in zip(rest, least, strict=True)):
                brightness = round(1 + options.brightness * (2 * light - 1), 3)
                placed.append(Placed(label, cutout, longest, angle, flip, brightness, x, y))
                window[mask] = len(placed)
                seen = [*rest, int(mask.sum())]
                least.append(options.visible * seen[-1])
                break
    boxes = tuple(extent(top == number) for number in range(1, len(placed) + 1))
    return Plan(tuple(draws[:_OF_BACKGROUND].tolist()), tuple(placed), boxes, tuple(seen))
