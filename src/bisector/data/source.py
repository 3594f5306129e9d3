"""What a reader found, before it is divided into training, validation and test."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bisector.data.dataset import Dataset
from bisector.data.examples import Examples, Joined
from bisector.data.images import PixelRange
from bisector.errors import require

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Source:
    """All examples of a data set with their labels, and the division that the data itself has, if any.

    Args:
        examples: the inputs, by position.
        labels: (N,) integers, classes from 0.
        class_names: of the classes 0 to C - 1.
        parts: the positions of the examples that belong to "train", "validation" and "test", as far as the data
            itself says so; empty if it does not.
        augmentation: how training examples of this kind are usually varied, as in `data.augmentation`.
        left_out: one line for each file, row or class that was found and not used, and why.
        notes: one line for each thing that was chosen in reading, such as the size of the images.
        pixel_range: the values of deep pixels that became 0 and 255 (`data.images`); None without such images.

    Raises:
        ArgumentError: if there is no example or a label is not a class.
    """

    examples: Examples
    labels: Tensor  # (N,)
    class_names: tuple[str, ...]
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    augmentation: str = "none"
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        count = len(self.examples)
        require(
            self.labels.shape == (count,), "labels", f"shape {tuple(self.labels.shape)}", f"shape ({count},)"
        )
        require(count > 0, "data", "no example", "at least one")
        stray = self.labels[(self.labels < 0) | (self.labels >= len(self.class_names))]
        legal = f"classes from 0 to {len(self.class_names) - 1}"
        require(not len(stray), "labels", stray.tolist()[:10], legal)


def source_of(dataset: Dataset) -> Source:
    """Put the parts of a data set together again, to divide it in another way.

    >>> from bisector.data.dataset import Part
    >>> from bisector.data.examples import InMemory
    >>> part = Part(InMemory(torch.zeros(2, 3)), torch.tensor([0, 1]))
    >>> {name: rows.tolist() for name, rows in source_of(Dataset("x", part, part, part, ("a", "b"))).parts.items()}
    {'train': [0, 1], 'validation': [2, 3], 'test': [4, 5]}
    """
    parts = [dataset.train, dataset.validation, dataset.test]
    sizes = [len(part) for part in parts]
    return Source(
        examples=Joined([part.examples for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        class_names=dataset.class_names,
        parts=dict(zip(PARTS, torch.split(torch.arange(sum(sizes)), sizes), strict=True)),
        augmentation=dataset.augmentation,
        left_out=dataset.left_out,
        notes=dataset.notes,
        pixel_range=dataset.pixel_range,
    )
