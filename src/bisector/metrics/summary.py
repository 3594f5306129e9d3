"""The numbers by which heads are compared: what they are called, and all of them at once."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bisector.errors import require
from bisector.metrics.bias import bias, bias_corrected
from bisector.metrics.geometry import inter_class_separability, intra_class_compactness
from bisector.metrics.groups import class_accuracy, group_accuracy, groups, worst_class
from bisector.statistics.correlation import partial_correlation, pearson


@dataclass(frozen=True)
class MetricInfo:
    """What a reader must know of one metric."""

    key: str
    label: str
    unit: str  # "%" for a fraction that is shown in percent
    better: Literal["higher", "lower", ""]  # "" where neither is
    help: str

    @property
    def scale(self) -> int:
        """What a value is multiplied by to be shown in `unit`."""
        return 100 if self.unit == "%" else 1


METRICS: tuple[MetricInfo, ...] = (
    MetricInfo("accuracy", "Accuracy", "%", "higher", "Share of the test instances classified correctly."),
    MetricInfo(
        *("balanced_accuracy", "Balanced accuracy", "%", "higher"),
        help="Mean of the accuracies of the classes: every class weighs the same.",
    ),
    MetricInfo(
        *("many", "Many", "%", "higher"),
        help="Mean accuracy of the classes with many training instances (the third with most).",
    ),
    MetricInfo(
        *("medium", "Medium", "%", "higher"),
        help="Mean accuracy of the classes between many and few (the middle third).",
    ),
    MetricInfo(
        *("few", "Few", "%", "higher"),
        help="Mean accuracy of the classes with few training instances (the third with fewest).",
    ),
    MetricInfo("worst_class", "Worst class", "%", "higher", "Accuracy of the class that fares worst."),
    MetricInfo(
        *("bias", "Bias", "pp²", "lower"),
        help="Variance of the accuracy over the classes, in percentage points squared; 0 means all alike.",
    ),
    MetricInfo(
        *("bias_corrected", "Bias, corrected", "pp²", "lower"),
        help="Bias less what chance adds because the classes have few test instances. "
        "A value below 0 means that the classes do not differ measurably.",
    ),
    MetricInfo(
        *("r_amount_accuracy", "r(amount, accuracy)", "", ""),
        help="Correlation over the classes between information amount and accuracy; "
        "negative where classes that hold more information are harder.",
    ),
    MetricInfo(
        *("r_count_accuracy", "r(log count, accuracy)", "", ""),
        help="Correlation over the classes between the logarithm of the training count and accuracy.",
    ),
    MetricInfo(
        *("r_amount_accuracy_given_count", "r(amount, accuracy | count)", "", ""),
        help="Correlation between information amount and accuracy with the logarithm of the training count held "
        "fixed: what the amount tells beyond the count.",
    ),
    MetricInfo(
        *("r_amount_count", "r(amount, log count)", "", ""),
        help="Correlation over the classes between information amount and the logarithm of the training count: how "
        "much of the amount is the size of the class.",
    ),
    MetricInfo(
        *("compactness", "Compactness", "", ""),
        help="Mean cosine of the test embeddings to the mean direction of their class; 1 is one ray per class. "
        "To be read beside the separability: embeddings that collapse are compact too.",
    ),
    MetricInfo(
        *("separability", "Separability", "°", "higher"),
        help="Angle from the mean direction of a class to the nearest other one, averaged over the classes.",
    ),
)
"""Every metric of a comparison, in the order in which it is shown."""


def fairness(
    predictions: Tensor,  # (N,) class indices
    labels: Tensor,  # (N,) class indices
    num_classes: int,
    train_counts: Tensor | None = None,  # (C,)
    *,
    thresholds: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Those of `METRICS` that predictions alone tell, by key and in their order.

    Without training counts there are no groups of many, medium and few.

    >>> found = fairness(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
    >>> found["balanced_accuracy"], found["worst_class"]
    (0.75, 0.5)
    """
    by_class = class_accuracy(predictions, labels, num_classes)
    grouped = {} if train_counts is None else group_accuracy(by_class, groups(train_counts, thresholds))
    found = {
        "accuracy": (predictions == labels).double().mean(),
        "balanced_accuracy": by_class.nanmean(),
        **grouped,
        "worst_class": worst_class(by_class),
        "bias": bias(by_class),
        "bias_corrected": bias_corrected(by_class, torch.bincount(labels, minlength=num_classes)),
    }
    return {key: float(value) for key, value in found.items()}


def summarize(
    predictions: Tensor,  # (N,) class indices
    labels: Tensor,  # (N,) class indices
    embeddings: Tensor,  # (N, D), of the test instances
    train_counts: Tensor,  # (C,)
    class_amounts: Tensor,  # (C,) bits, NaN where unknown
    *,
    thresholds: tuple[float, float] | None = None,
) -> dict[str, float]:
    """All of `METRICS` for one classifier on one test set, by key and in their order.

    Accuracies are fractions, 0 to 1. The correlations run over the classes that were tested, have training
    instances and, where the amount takes part, a finite amount; too few of them (below three, four with the
    count held fixed) or a quantity that is the same for all give NaN.

    Args:
        predictions: the predicted classes.
        labels: the true classes.
        embeddings: the test embeddings, for compactness and separability.
        train_counts: training instances per class; they decide the groups.
        class_amounts: information amount of each class's training embeddings.
        thresholds: `(low, high)` or `None` for thirds, as in `groups`.

    Raises:
        ArgumentError: if shapes do not fit or an index is not a class.

    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    >>> found = summarize(x.argmax(1), labels, x, torch.tensor([90, 10]), torch.tensor([3.0, 5.0]))
    >>> found["accuracy"], found["worst_class"], found["bias"]
    (0.75, 0.5, 625.0)
    """
    require(
        class_amounts.shape == train_counts.shape,
        "class_amounts",
        f"shape {tuple(class_amounts.shape)}",
        f"the shape of train_counts, {tuple(train_counts.shape)}",
    )
    by_class = class_accuracy(predictions, labels, len(train_counts))
    log_counts, amounts = (
        quantity.where(quantity.isfinite(), torch.nan)  # a class without training instances has log 0
        for quantity in (train_counts.double().log(), class_amounts.double())
    )
    found = {
        "r_amount_accuracy": pearson(amounts, by_class),
        "r_count_accuracy": pearson(log_counts, by_class),
        "r_amount_accuracy_given_count": partial_correlation(amounts, by_class, log_counts),
        "r_amount_count": pearson(amounts, log_counts),
        "compactness": intra_class_compactness(embeddings, labels),
        "separability": inter_class_separability(embeddings, labels),
    }
    of_predictions = fairness(predictions, labels, len(train_counts), train_counts, thresholds=thresholds)
    return of_predictions | {key: float(value) for key, value in found.items()}
