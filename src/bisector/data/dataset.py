"""What a data set is: images and labels in three parts that never mix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.errors import require


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels for training, validation and test, with the names of the classes.

    Validation chooses (a rate, a margin, an epoch), test only reports. Images are (N, channels, height,
    width) float; labels are (N,) integers from 0 to C - 1.

    Raises:
        ArgumentError: if images and labels of a part differ in number, or a label is not a class.

    >>> image, label = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])
    >>> data = Dataset("two", image, label, image, label, image, label, ("zero", "one"))
    >>> data.num_classes, data.train_counts
    (2, tensor([1, 1]))
    """

    name: str
    images_train: Tensor
    labels_train: Tensor
    images_validation: Tensor
    labels_validation: Tensor
    images_test: Tensor
    labels_test: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            images: Tensor = getattr(self, f"images_{part}")
            labels: Tensor = getattr(self, f"labels_{part}")
            name = f"labels_{part}"
            require(
                labels.shape == images.shape[:1],
                name,
                f"shape {tuple(labels.shape)}",
                f"shape ({len(images)},), one label an image",
            )
            stray = labels[(labels < 0) | (labels >= self.num_classes)]
            require(not len(stray), name, stray.tolist(), f"classes from 0 to {self.num_classes - 1}")

    @property
    def num_classes(self) -> int:
        """C, how many classes there are."""
        return len(self.class_names)

    @property
    def train_counts(self) -> Tensor:
        """Training instances per class, (C,)."""
        return torch.bincount(self.labels_train, minlength=self.num_classes)

    @property
    def test_counts(self) -> Tensor:
        """Test instances per class, (C,)."""
        return torch.bincount(self.labels_test, minlength=self.num_classes)
