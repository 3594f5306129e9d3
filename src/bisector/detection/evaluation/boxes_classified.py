"""Classification of ground-truth boxes: what the classifier does where finding boxes is not the difficulty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.detection.evaluation.frequency import FREQUENCIES, class_bias, group_means
from bisector.errors import require
from bisector.metrics.groups import class_accuracy


@dataclass(frozen=True)
class BoxAccuracy:
    """How well the classes of given boxes were told apart. Fractions from 0 to 1, NaN where nothing was tested.

    Args:
        accuracy: share of the boxes.
        balanced_accuracy: mean over the classes.
        by_frequency: mean over the rare, the common and the frequent classes.
        bias: population variance of `class_accuracy` in percentage points squared.
        class_accuracy: (C,).
        class_boxes: (C,) boxes of each class.
    """

    accuracy: float
    balanced_accuracy: float
    by_frequency: dict[str, float]
    bias: float
    class_accuracy: tuple[float, ...]
    class_boxes: tuple[int, ...]


def classify_boxes(
    scores: Tensor,  # (n, C)
    labels: Tensor,  # (n,)
    frequency: Sequence[str] | None = None,  # (C,)
) -> BoxAccuracy:
    """Score the classification of ground-truth boxes; a box is of the class with the highest score.

    A detector that finds little has an AP near 0 for every class, which says nothing of how it treats them; given
    the boxes, its classifier can still be compared.

    Args:
        scores: of the classes without the background, column 0 being class 1; only their order counts.
        labels: classes from 1 to C.
        frequency: "rare", "common" or "frequent" for each class, as `frequencies` gives them.

    Raises:
        ArgumentError: if a shape does not fit, a score is NaN or a label is no class.

    >>> found = classify_boxes(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 2, 2]))
    >>> found.class_accuracy, found.balanced_accuracy
    ((1.0, 0.5), 0.75)
    """
    fits = scores.ndim == 2 and scores.shape[1] > 0
    require(fits, "scores", f"shape {tuple(scores.shape)}", "shape (n, C) with C >= 1")
    rows, classes = scores.shape
    broken = scores.isnan().any(dim=1)
    require(
        not bool(broken.any()), "scores", f"NaN in row {int(broken.int().argmax()) if rows else 0}", "numbers"
    )
    return classify_predicted(scores.argmax(dim=1) + 1, labels, classes, frequency)


def classify_predicted(
    predictions: Tensor,  # (n,)
    labels: Tensor,  # (n,)
    num_classes: int,
    frequency: Sequence[str] | None = None,  # (C,)
) -> BoxAccuracy:
    """Score the classification of ground-truth boxes, as `classify_boxes`, from the predicted classes alone.

    Args:
        predictions: classes from 1 to C.
        labels: classes from 1 to C.
        num_classes: C, without the background.
        frequency: "rare", "common" or "frequent" for each class, as `frequencies` gives them.

    Raises:
        ArgumentError: if a shape does not fit or a label is no class.

    >>> classify_predicted(torch.tensor([1, 1, 2]), torch.tensor([1, 2, 2]), 2).class_accuracy
    (1.0, 0.5)
    """
    rows, classes = len(predictions), num_classes
    fits = labels.shape == (rows,) and not labels.is_floating_point()
    require(fits, "labels", f"shape {tuple(labels.shape)}, {labels.dtype}", f"({rows},), integers")
    wrong = (labels < 1) | (labels > classes)
    require(not bool(wrong.any()), "labels", labels[wrong][:1].tolist(), f"1 to {classes}")
    fits = frequency is None or len(frequency) == classes
    require(fits, "frequency", f"{len(frequency or ())} entries", f"{classes}, one a class")
    predictions, labels = predictions.cpu() - 1, labels.cpu() - 1
    by_class = class_accuracy(predictions, labels, classes).double()
    return BoxAccuracy(
        accuracy=float((predictions == labels).double().mean()) if rows else math.nan,
        balanced_accuracy=float(by_class.nanmean()),
        by_frequency=group_means(by_class, frequency, FREQUENCIES),
        bias=class_bias(by_class),
        class_accuracy=tuple(by_class.tolist()),
        class_boxes=tuple(torch.bincount(labels, minlength=classes).tolist()),
    )
