"""Images with their labels, wherever they lie, as a data set."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from bisector.data.image_examples import Reading
from bisector.data.images import Encoded
from bisector.data.source import Source


class LabelledImage(NamedTuple):
    """An image of a data set, before it is read."""

    image: Encoded  # the path of a file, or its content
    name: str  # by which a person finds it
    label: str  # the name of its class
    part: str  # "train", "validation" or "test"; what is not divided is all "train"


def image_source(
    images: Sequence[LabelledImage],
    classes: Sequence[str],
    reading: Reading,
    *,
    left_out: Sequence[str] = (),
    notes: Iterable[str] = (),
) -> Source:
    """Read labelled images as a data set.

    Of all `classes`, which are in their order, those without a readable image are left out and named. What was left
    out and chosen before comes first.

    Raises:
        ArgumentError: if no image can be read.
    """
    if reading.check_classes is not None:
        reading.check_classes(classes)
    read = reading.images([one.image for one in images], [one.name for one in images])
    kept = [images[index] for index in read.readable.tolist()]
    found = {one.label for one in kept}
    class_names = tuple(name for name in classes if name in found)
    number = {name: index for index, name in enumerate(class_names)}
    parts: dict[str, list[int]] = {}
    for row, one in enumerate(kept):
        parts.setdefault(one.part, []).append(row)
    empty = [f"class {name!r}: no readable image" for name in classes if name not in found]
    return Source(
        examples=read.examples,
        labels=torch.tensor([number[one.label] for one in kept]),
        class_names=class_names,
        parts={part: torch.tensor(rows) for part, rows in parts.items()},
        augmentation="crop-flip",
        left_out=(*left_out, *read.left_out, *empty),
        notes=(*notes, *read.notes),
        pixel_range=read.pixel_range,
    )
