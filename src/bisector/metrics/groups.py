"""Accuracy class by class, and by how much the classes were seen in training."""

from typing import NamedTuple

import torch
from torch import Tensor

from bisector.checks import require_classes
from bisector.errors import require

LONG_TAIL_THRESHOLDS = (20, 100)
"""The field's thresholds: few below 20 training instances, many above 100 (Liu et al. 2019)."""


class Groups(NamedTuple):
    """Three masks over the classes, each (C,) bool; every class lies in exactly one."""

    many: Tensor
    medium: Tensor
    few: Tensor


def class_accuracy(
    predictions: Tensor,  # (B,) class indices
    labels: Tensor,  # (B,) class indices
    num_classes: int,
) -> Tensor:  # (C,)
    """The share of each class's instances that is predicted correctly, `correct_c / n_c`, 0 to 1.

    A class with no instance has accuracy NaN.

    Raises:
        ArgumentError: if the shapes differ or an index is not a class.

    >>> class_accuracy(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 3)
    tensor([0.5000, 1.0000,    nan], dtype=torch.float64)
    """
    require(num_classes >= 1, "num_classes", num_classes, "at least 1")
    require(labels.dim() == 1, "labels", f"shape {tuple(labels.shape)}", "shape (B,)")
    require_classes("labels", labels, num_classes)
    got, expected = f"shape {tuple(predictions.shape)}", f"the shape of labels, {tuple(labels.shape)}"
    require(predictions.shape == labels.shape, "predictions", got, expected)
    require_classes("predictions", predictions, num_classes)
    correct = torch.bincount(labels[predictions == labels], minlength=num_classes)
    return correct.double() / torch.bincount(labels, minlength=num_classes)


def balanced_accuracy(
    predictions: Tensor,  # (B,) class indices
    labels: Tensor,  # (B,) class indices
    num_classes: int,
) -> Tensor:
    """The mean of `class_accuracy` over the classes that occur in `labels`, 0 to 1.

    Every class weighs the same, however many instances it has (Brodersen et al. 2010). NaN without instances.

    Raises:
        ArgumentError: if the shapes differ or an index is not a class.

    >>> balanced_accuracy(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 3)
    tensor(0.7500, dtype=torch.float64)
    """
    return class_accuracy(predictions, labels, num_classes).nanmean()


def groups(
    train_counts: Tensor,  # (C,) training instances per class
    thresholds: tuple[float, float] | None = None,
) -> Groups:
    """Split the classes by how many training instances they have.

    With `thresholds = (low, high)`: many above `high`, few below `low`, medium from `low` to `high`. The
    field takes `LONG_TAIL_THRESHOLDS` (Liu et al. 2019, "Large-Scale Long-Tailed Recognition in an Open
    World"), which suit data sets with hundreds of instances in the common classes. Where they do not fit,
    `None` (the default) gives thirds: the classes are ranked by count (equal counts by index) and cut into
    three groups whose sizes differ by at most one, the larger first.

    Raises:
        ArgumentError: if `train_counts` is not a vector of counts, or the thresholds are not in order.

    >>> groups(torch.tensor([7, 900, 50])).many
    tensor([False,  True, False])
    >>> groups(torch.tensor([7, 900, 50]), thresholds=LONG_TAIL_THRESHOLDS).few
    tensor([ True, False, False])
    """
    require(
        train_counts.dim() == 1 and train_counts.numel() > 0,
        "train_counts",
        f"shape {tuple(train_counts.shape)}",
        "shape (C,) with C >= 1",
    )
    require(bool((train_counts >= 0).all()), "train_counts", train_counts.min().item(), "no count below 0")
    if thresholds is None:
        ranked = train_counts.argsort(descending=True, stable=True)
        masks = [torch.zeros_like(train_counts, dtype=torch.bool) for _ in range(3)]
        for mask, members in zip(masks, ranked.tensor_split(3), strict=True):
            mask[members] = True
        return Groups(*masks)
    low, high = thresholds
    require(0 <= low <= high, "thresholds", thresholds, "(low, high) with 0 <= low <= high")
    many, few = train_counts > high, train_counts < low
    return Groups(many, ~(many | few), few)


def group_accuracy(
    class_scores: Tensor,  # (C,) accuracy per class, NaN where unknown
    by_count: Groups,
) -> dict[str, Tensor]:
    """The mean class accuracy of each group, under the keys `many`, `medium` and `few`.

    Classes with score NaN do not count; a group without any other class has accuracy NaN.

    Raises:
        ArgumentError: if the groups are of another number of classes.

    >>> scores = torch.tensor([0.2, 0.9, 0.5])
    >>> group_accuracy(scores, groups(torch.tensor([7, 900, 50])))["few"]
    tensor(0.2000)
    """
    require(
        class_scores.shape == by_count.many.shape,
        "class_scores",
        f"shape {tuple(class_scores.shape)}",
        f"the shape of the groups, {tuple(by_count.many.shape)}",
    )
    return {name: class_scores[mask].nanmean() for name, mask in by_count._asdict().items()}


def worst_class(class_scores: Tensor) -> Tensor:  # (C,) -> ()
    """The lowest accuracy of any class; classes with score NaN do not count.

    >>> worst_class(torch.tensor([0.9, float("nan"), 0.4]))
    tensor(0.4000)
    """
    known = class_scores[~class_scores.isnan()]
    return known.min() if known.numel() else known.mean()
