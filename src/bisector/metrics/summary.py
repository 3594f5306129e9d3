"""The numbers by which heads are compared: what they are called, and all of them at once."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bisector.checks import require_classes
from bisector.errors import require
from bisector.metrics.geometry import inter_class_separability, intra_class_compactness
from bisector.metrics.groups import Groups, class_accuracy, groups
from bisector.statistics.bootstrap import Estimate, bootstrap_intervals
from bisector.statistics.correlation import partial_correlation, pearson


@dataclass(frozen=True)
class MetricInfo:
    """What a reader must know of one metric."""

    key: str
    label: str
    unit: str  # "%" for a fraction that is shown in percent, "pp" for a difference of such
    better: Literal["higher", "lower", ""]  # "" where neither is
    help: str
    more: bool = False  # not among the first that a reader is shown

    @property
    def scale(self) -> int:
        """What a value is multiplied by to be shown in `unit`."""
        return 100 if self.unit in {"%", "pp"} else 1


METRICS: tuple[MetricInfo, ...] = (
    MetricInfo("accuracy", "Accuracy", "%", "higher", "Share of the test instances classified correctly."),
    MetricInfo(
        *("balanced_accuracy", "Balanced accuracy", "%", "higher"),
        help="Mean of the accuracies of the classes: every class weighs the same.",
    ),
    MetricInfo(
        *("many", "Many", "%", "higher"),
        help="Mean accuracy of the classes with many training instances (the third with most).",
        more=True,
    ),
    MetricInfo(
        *("medium", "Medium", "%", "higher"),
        help="Mean accuracy of the classes between many and few (the middle third).",
        more=True,
    ),
    MetricInfo(
        *("few", "Few", "%", "higher"),
        help="Mean accuracy of the classes with few training instances (the third with fewest).",
    ),
    MetricInfo("worst_class", "Worst class", "%", "higher", "Accuracy of the class that fares worst."),
    MetricInfo(
        *("harmonic_mean", "Harmonic mean", "%", "higher"),
        help="Harmonic mean of the accuracies of the classes: near the worst ones, and 0 where one is.",
    ),
    MetricInfo(
        *("spread", "Spread", "pp", "lower"),
        help="Standard deviation of the accuracy over the classes, in percentage points; 0 means all alike.",
    ),
    MetricInfo(
        *("bias", "Bias", "pp²", "lower"),
        help="Variance of the accuracy over the classes, in percentage points squared: the square of the spread.",
        more=True,
    ),
    MetricInfo(
        *("bias_corrected", "Bias, corrected", "pp²", "lower"),
        help="Bias less what chance adds because the classes have few test instances. "
        "A value below 0 means that the classes do not differ measurably.",
        more=True,
    ),
    MetricInfo(
        *("r_amount_accuracy", "r(amount, accuracy)", "", ""),
        help="Correlation over the classes between information amount and accuracy; "
        "negative where classes that hold more information are harder.",
        more=True,
    ),
    MetricInfo(
        *("r_count_accuracy", "r(log count, accuracy)", "", ""),
        help="Correlation over the classes between the logarithm of the training count and accuracy.",
        more=True,
    ),
    MetricInfo(
        *("r_amount_accuracy_given_count", "r(amount, accuracy | count)", "", ""),
        help="Correlation between information amount and accuracy with the logarithm of the training count held "
        "fixed: what the amount tells beyond the count.",
        more=True,
    ),
    MetricInfo(
        *("r_amount_count", "r(amount, log count)", "", ""),
        help="Correlation over the classes between information amount and the logarithm of the training count: how "
        "much of the amount is the size of the class.",
        more=True,
    ),
    MetricInfo(
        *("compactness", "Compactness", "", ""),
        help="Mean cosine of the test embeddings to the mean direction of their class; 1 is one ray per class. "
        "To be read beside the separability: embeddings that collapse are compact too.",
        more=True,
    ),
    MetricInfo(
        *("separability", "Separability", "°", "higher"),
        help="Angle from the mean direction of a class to the nearest other one, averaged over the classes.",
        more=True,
    ),
)
"""Every metric of a comparison, in the order in which it is shown."""

FIRST_METRICS = tuple(info for info in METRICS if not info.more)
"""Those that a reader is shown first."""


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
    require_classes("predictions", predictions, num_classes, rows=len(labels))
    require_classes("labels", labels, num_classes)
    right = (predictions == labels).double()
    by_count = None if train_counts is None else groups(train_counts, thresholds)
    found = _fairness(torch.ones(1, len(labels), dtype=torch.float64), right, labels, num_classes, by_count)
    return {key: float(value) for key, value in found.items()}


def fairness_of_counts(
    right: Tensor,  # (C,) test instances of each class that are predicted correctly
    seen: Tensor,  # (C,) test instances of each class
    train_counts: Tensor | None = None,  # (C,)
    *,
    thresholds: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Return what `fairness` does, of no more than how many instances of each class are right.

    Raises:
        ArgumentError: the vectors are not of one length, or more are right than there are.

    >>> found = fairness_of_counts(torch.tensor([1, 1]), torch.tensor([2, 1]))
    >>> found["balanced_accuracy"], found["worst_class"]
    (0.75, 0.5)
    """
    fits = right.dim() == 1 and right.shape == seen.shape
    require(fits, "right", f"shape {tuple(right.shape)}", f"that of seen, {tuple(seen.shape)}, (C,)")
    legal = bool(((right >= 0) & (right <= seen)).all())
    require(legal, "right", "counts below 0 or above those of seen", "0 to those of seen")
    by_count = None if train_counts is None else groups(train_counts, thresholds)
    # A row of a class for all that are right, and one for all that are wrong.
    classes = torch.arange(len(seen), device=seen.device).repeat(2)
    weights = torch.cat([right, seen - right])[None].double()
    outcome = (torch.arange(2 * len(seen), device=seen.device) < len(seen)).double()
    found = _fairness(weights, outcome, classes, len(seen), by_count)
    return {key: float(value) for key, value in found.items()}


def fairness_changes(
    before: Tensor,  # (N,) class indices
    after: Tensor,  # (N,) class indices
    labels: Tensor,  # (N,) class indices
    num_classes: int,
    train_counts: Tensor | None = None,  # (C,)
    *,
    seed: int = 0,
) -> dict[str, Estimate]:
    """By how much each number of `fairness` changes from some predictions to others of the same rows.

    With 95% intervals, BCa over rows drawn again (`bisector.statistics.bootstrap`), each for itself.

    Args:
        before: predictions.
        after: other predictions.
        labels: the true classes.
        num_classes: C.
        train_counts: as in `fairness`.
        seed: of the drawing.

    >>> labels = torch.arange(20) % 2
    >>> found = fairness_changes(torch.zeros(20, dtype=torch.long), labels, labels, 2)
    >>> found["balanced_accuracy"].value, found["worst_class"].value
    (0.5, 1.0)
    """
    by_count = None if train_counts is None else groups(train_counts)
    right = [(one == labels).double() for one in (before, after)]
    present, labels = torch.unique(labels, return_inverse=True)  # of many classes few may occur
    if by_count is not None:
        by_count = Groups(*(mask[present] for mask in by_count))
    num_classes = len(present)

    def statistic(weights: Tensor) -> Tensor:  # (R, N) -> (R, k)
        old, new = (_fairness(weights, one, labels, num_classes, by_count) for one in right)
        return torch.stack([new[key] - old[key] for key in new], 1)

    names = _fairness(
        torch.ones(1, len(labels), dtype=torch.float64), right[0], labels, num_classes, by_count
    )
    return dict(zip(names, bootstrap_intervals(statistic, len(labels), seed=seed), strict=True))


def _fairness(
    weights: Tensor,  # (R, N), of the rows
    right: Tensor,  # (N,) 1 where the prediction is right, else 0
    labels: Tensor,  # (N,)
    num_classes: int,
    by_count: Groups | None,
) -> dict[str, Tensor]:  # (R,)
    """Return the numbers of `fairness` for each way to weigh the rows; NaN where no row counts."""
    empty = weights.new_zeros(len(weights), num_classes)
    counts = empty.index_add(1, labels, weights)
    by_class = empty.index_add(1, labels, weights * right) / counts
    mean = by_class.nanmean(1)
    known = ~by_class.isnan()
    some = known.any(1)
    unknown = torch.full_like(mean, torch.nan)
    worst = by_class.where(known, torch.inf).amin(1)
    harmonic = known.sum(1) / (1 / by_class).where(known, 0).sum(1)
    measured = counts >= 2
    sure = by_class.where(measured, torch.nan)
    chance = (sure * (1 - sure) / (counts - 1)).nanmean(1)
    bias, corrected = (
        (100 * (one - one.nanmean(1, keepdim=True))).square().nanmean(1) for one in (by_class, sure)
    )
    shares = {} if by_count is None else by_count._asdict()
    return {
        "accuracy": (weights * right).sum(1) / weights.sum(1),
        "balanced_accuracy": mean,
        **{name: by_class[:, mask].nanmean(1) for name, mask in shares.items()},
        "worst_class": worst.where(some, unknown),
        "harmonic_mean": harmonic.where(some, unknown),
        "spread": bias.sqrt() / 100,
        "bias": bias,
        "bias_corrected": corrected - (1 - 1 / measured.sum(1).clamp_min(1)) * 100**2 * chance,
    }


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
