"""How many objects of each class there are, in which picture, where in it, and the box of what is seen of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bisector.data.keyed import keyed_permutation, keyed_uniform
from bisector.errors import require
from scenes.cutouts import SOLID, Cutout, extent, posed
from scenes.options import SceneOptions

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


def tail_counts(
    total: int,
    order: Tensor,  # (C,) the rank of each class, 0 the commonest
    imbalance: float,
    least: int = 1,
) -> Tensor:  # (C,)
    """Divide `total` objects: ``n_c`` proportional to ``imbalance^(-rank_c / (C - 1))``, and not below `least`.

    Raises:
        ArgumentError: there are fewer objects than classes.

    >>> tail_counts(111, torch.tensor([1, 0, 2]), imbalance=100)
    tensor([ 10, 100,   1])
    """
    classes = len(order)
    enough = f"at least {least} for each of {classes} classes"
    require(total >= least * classes, "pictures", f"{total} objects in all", enough)
    share = imbalance ** (-order.double() / max(classes - 1, 1))
    exact = share / share.sum() * total
    counts = exact.floor().clamp(min=least).long()
    most = (exact - counts).argsort(descending=True, stable=True)
    missing = total - int(counts.sum())
    counts[most[: max(missing, 0)]] += 1
    for _ in range(-missing):  # for those that got the least although their share is less
        counts[counts.argmax()] -= 1
    return counts


def deal(
    counts: Tensor,  # (C,)
    sizes: Tensor,  # (N,) objects in each picture, as many in all
    seed: int,
    part: int,
) -> list[Tensor]:  # N of (objects,) classes from 0
    """Deal objects to pictures, shuffled."""
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    return list(torch.split(labels[keyed_permutation(seed, part, len(labels))], sizes.tolist()))


def picture_sizes(pictures: int, fewest: int, most: int, seed: int, part: int) -> Tensor:  # (N,)
    """How many objects each picture gets: `fewest` to `most`, each as likely."""
    drawn = keyed_uniform(seed, part, torch.arange(pictures), 1, "how many")[:, 0]
    return fewest + (drawn.double() * (most - fewest + 1)).long()
