"""What a data set is: examples and labels in three parts that never mix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.data.examples import Examples, Subset
from bisector.data.images import PixelRange
from bisector.data.source import require_labels, require_one_label_each


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a data set: examples and their labels.

    Raises:
        ArgumentError: if examples and labels differ in number.
    """

    examples: Examples  # the inputs, by position
    labels: Tensor  # (N,)

    def __post_init__(self) -> None:
        require_one_label_each(self.examples, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, positions: Tensor) -> "Part":  # (M,)
        """Return the part that holds only these."""
        return Part(Subset(self.examples, positions), self.labels[positions])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and labels for training, validation and test, with the names of the classes.

    Validation chooses (a rate, a margin, an epoch), test only reports.

    Raises:
        ArgumentError: if a label is not a class.

    >>> from bisector.data.examples import InMemory
    >>> part = Part(InMemory(torch.zeros(2, 1, 8, 8)), torch.tensor([0, 1]))
    >>> data = Dataset("two", part, part, part, ("zero", "one"))
    >>> data.num_classes, data.train_counts, data.shape
    (2, tensor([1, 1]), (1, 8, 8))
    """

    name: str  # as the user gave it
    train: Part  # what networks are trained on
    validation: Part  # what chooses
    test: Part  # what reports
    # of the classes 0 to C - 1, which the labels of training and validation name
    class_names: tuple[str, ...]
    # of the classes that the labels of the test part name, where these are other classes than those trained
    # on (the open-set split); `class_names` if None
    test_names: tuple[str, ...] | None = None
    augmentation: str = "none"  # as in `Source`, and so are the rest
    left_out: tuple[str, ...] = ()  # what was found and not used
    notes: tuple[str, ...] = ()  # what was chosen in reading
    pixel_range: PixelRange | None = None  # the values of deep pixels that became 0 and 255

    def __post_init__(self) -> None:
        for name in ("train", "validation"):
            require_labels(f"labels of the {name} part", getattr(self, name).labels, self.class_names)
        require_labels("labels of the test part", self.test.labels, self._tested)

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
        return torch.bincount(self.test.labels, minlength=len(self._tested))

    @property
    def _tested(self) -> tuple[str, ...]:
        return self.class_names if self.test_names is None else self.test_names
