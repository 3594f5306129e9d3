"""What a reader found, before it is divided into training, validation and test."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from bisector.data.examples import Examples
from bisector.data.images import PixelRange
from bisector.errors import require

PARTS = ("train", "validation", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a part may be called, in the name of a file or in a column of splits."""


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
        require_one_label_each(self.examples, self.labels)
        require(len(self.labels) > 0, "data", "no example", "at least one")
        require_labels("labels", self.labels, self.class_names)


def require_one_label_each(examples: Examples, labels: Tensor) -> None:
    """Raise `ArgumentError` if examples and labels differ in number."""
    legal = f"shape ({len(examples)},), one label an example"
    require(labels.shape == (len(examples),), "labels", f"shape {tuple(labels.shape)}", legal)


def require_labels(name: str, labels: Tensor, class_names: tuple[str, ...]) -> None:
    """Raise `ArgumentError` for labels that are no classes."""
    stray = labels[(labels < 0) | (labels >= len(class_names))]
    require(not len(stray), name, stray.tolist()[:10], f"classes from 0 to {len(class_names) - 1}")


def part_of(name: str) -> str | None:
    """Say whether the name of a file or folder tells of "train", "validation" or "test"; None if of none.

    >>> part_of("train-00000-of-00002.parquet"), part_of("t10k-images-idx3"), part_of("Val"), part_of("trains")
    ('train', 'test', 'validation', None)
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    known = {**SPLIT_WORDS, "t10k": "test"}  # as the files of MNIST are called
    return next((known[word] for word in words if word in known), None)
