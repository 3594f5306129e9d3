"""What a data set is: examples and labels in three parts that never mix."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bisector.data.examples import Examples
from bisector.data.images import PixelRange
from bisector.errors import require


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a data set: examples and their labels.

    Args:
        examples: the inputs, by position.
        labels: (N,) integers, classes from 0.

    Raises:
        ArgumentError: if examples and labels differ in number.
    """

    examples: Examples
    labels: Tensor  # (N,)

    def __post_init__(self) -> None:
        require(
            self.labels.shape == (len(self.examples),),
            "labels",
            f"shape {tuple(self.labels.shape)}",
            f"shape ({len(self.examples)},), one label an example",
        )

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, positions: Tensor) -> "Part":  # (M,)
        """Return the part that holds only these."""
        return Part(self.examples.select(positions), self.labels[positions])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and labels for training, validation and test, with the names of the classes.

    Validation chooses (a rate, a margin, an epoch), test only reports.

    Args:
        name: as the user gave it.
        train: what networks are trained on.
        validation: what chooses.
        test: what reports.
        class_names: of the classes 0 to C - 1, which the labels of training and validation name.
        test_names: of the classes that the labels of the test part name, where these are other classes than those
            trained on (the open-set split); `class_names` if None.
        augmentation: how training examples of this kind are usually varied, as in `data.augmentation`.
        left_out: one line for each file, row or class that was found and not used, and why.
        notes: one line for each thing that was chosen in reading, such as the size of the images.
        pixel_range: the values of deep pixels that became 0 and 255 (`data.images`); None without such images.

    Raises:
        ArgumentError: if a label is not a class.

    >>> from bisector.data.examples import InMemory
    >>> part = Part(InMemory(torch.zeros(2, 1, 8, 8)), torch.tensor([0, 1]))
    >>> data = Dataset("two", part, part, part, ("zero", "one"))
    >>> data.num_classes, data.train_counts, data.shape
    (2, tensor([1, 1]), (1, 8, 8))
    """

    name: str
    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]
    test_names: tuple[str, ...] | None = None
    augmentation: str = "none"
    left_out: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = ()
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        tested = self.class_names if self.test_names is None else self.test_names
        known = {"train": self.class_names, "validation": self.class_names, "test": tested}
        for part, names in known.items():
            labels: Tensor = getattr(self, part).labels
            stray = labels[(labels < 0) | (labels >= len(names))]
            require(
                not len(stray),
                f"labels of the {part} part",
                stray.tolist()[:10],
                f"classes from 0 to {len(names) - 1}",
            )

    @property
    def num_classes(self) -> int:
        """C, how many classes there are to train on."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (channels, height, width) or (D,)."""
        return self.train.examples.shape

    @property
    def open_set(self) -> bool:
        """Whether the classes of the test part are others than those trained on."""
        return self.test_names is not None

    @property
    def train_counts(self) -> Tensor:
        """Training instances per class, (C,)."""
        return torch.bincount(self.train.labels, minlength=self.num_classes)

    @property
    def validation_counts(self) -> Tensor:
        """Validation instances per class, (C,)."""
        return torch.bincount(self.validation.labels, minlength=self.num_classes)

    @property
    def test_counts(self) -> Tensor:
        """Test instances per class, (C,) or as many as `test_names`."""
        tested = self.class_names if self.test_names is None else self.test_names
        return torch.bincount(self.test.labels, minlength=len(tested))
