"""Metrics for torchmetrics: how every class, or each group of classes, fares."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bisector.checks import require_classes
from bisector.errors import missing_extra, require, require_integer
from bisector.metrics.summary import fairness_of_counts

try:
    from torchmetrics import Metric
except ImportError as error:
    raise missing_extra("torchmetrics", "torchmetrics") from error

__all__ = ["Fairness", "GroupAccuracy", "HarmonicMeanAccuracy", "WorstClassAccuracy"]


class Fairness(Metric):
    """All that predictions tell of how fair a classifier is, as `bisector.metrics.summary.fairness` has it.

    It counts what is right of each class, in two vectors of C integers, which are summed over processes. In a
    `MetricCollection` all metrics of this file share them.

    Args:
        num_classes: C.
        train_counts: (C,) training instances of each class, for the groups of many, medium and few; none without.
        thresholds: `(low, high)` between the groups, or None for thirds; see `bisector.metrics.groups.groups`.
        options: those of `torchmetrics.Metric`.

    Raises:
        ArgumentError: an argument is not as described.

    >>> metric = Fairness(3, train_counts=[100, 10, 1])
    >>> metric.update(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 2]))
    >>> found = metric.compute()
    >>> float(found["worst_class"]), float(found["harmonic_mean"]), float(found["few"])
    (0.5, 0.75, 1.0)
    """

    is_differentiable = False
    higher_is_better: bool | None = None
    full_state_update = False

    right: Tensor
    seen: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        train_counts: Tensor | Sequence[float] | None = None,  # (C,)
        thresholds: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.num_classes = require_integer("num_classes", num_classes, least=1)
        counts = None if train_counts is None else torch.as_tensor(train_counts)
        fits = counts is None or counts.shape == (num_classes,)
        require(
            fits,
            "train_counts",
            f"shape {tuple(counts.shape) if counts is not None else ''}",
            f"({num_classes},)",
        )
        self.train_counts = None if counts is None else counts.cpu()
        self.thresholds = thresholds
        for name in ("right", "seen"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self._numbers()  # the thresholds may be wrong

    def update(
        self,
        preds: Tensor,  # (B,) classes or (B, C) scores
        target: Tensor,  # (B,)
    ) -> None:
        """Count a batch.

        Raises:
            ArgumentError: shapes do not fit, or an index is no class.
        """
        scores = preds.dim() == 2
        got = f"shape {tuple(preds.shape)}"
        require(
            not scores or preds.shape[1] == self.num_classes, "preds", got, f"(B,) or (B, {self.num_classes})"
        )
        classes = preds.argmax(1) if scores else preds
        require_classes("target", target, self.num_classes)
        require(target.dim() == 1, "target", f"shape {tuple(target.shape)}", "(B,)")
        require_classes("preds", classes, self.num_classes, rows=len(target))
        # Sums of ones: unlike bincount they are deterministic on a GPU.
        ones = torch.ones_like(target, dtype=torch.long)
        self.seen = self.seen.index_add(0, target.long(), ones)
        self.right = self.right.index_add(0, target.long(), (classes == target).long())

    def compute(self) -> Any:
        """Return the numbers by name, 0-d and float64: accuracies as fractions, NaN where no row counts."""
        return self._numbers()

    def _numbers(self) -> dict[str, Tensor]:
        right, seen = self.right.cpu(), self.seen.cpu()
        found = fairness_of_counts(right, seen, self.train_counts, thresholds=self.thresholds)
        return {key: torch.tensor(value, dtype=torch.float64, device="cpu") for key, value in found.items()}


class GroupAccuracy(Fairness):
    """The mean accuracy of the classes with many, medium and few training instances, a dict of these three.

    Args:
        train_counts: (C,) training instances of each class.
        thresholds: as in `Fairness`.
        options: those of `torchmetrics.Metric`.

    >>> metric = GroupAccuracy([100, 10, 1])
    >>> {name: float(value) for name, value in metric(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2])).items()}
    {'many': 1.0, 'medium': 1.0, 'few': 0.0}
    """

    higher_is_better = True

    def __init__(
        self,
        train_counts: Tensor | Sequence[float],  # (C,)
        *,
        thresholds: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(len(train_counts), train_counts=train_counts, thresholds=thresholds, **options)

    def compute(self) -> dict[str, Tensor]:
        """Return the accuracy of each group, NaN of one without a row."""
        found = self._numbers()
        return {name: found[name] for name in ("many", "medium", "few")}


class HarmonicMeanAccuracy(Fairness):
    """The harmonic mean of the accuracies of the classes: near the worst ones, and 0 where one is.

    Args:
        num_classes: C.
        options: those of `torchmetrics.Metric`.

    >>> metric = HarmonicMeanAccuracy(2)
    >>> round(float(metric(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))), 4)
    0.6667
    """

    higher_is_better = True

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(num_classes, **options)

    def compute(self) -> Tensor:
        """Return it over the classes that had a row; NaN without any."""
        return self._numbers()["harmonic_mean"]


class WorstClassAccuracy(Fairness):
    """The lowest accuracy (recall) of any class.

    Args:
        num_classes: C.
        options: those of `torchmetrics.Metric`.

    >>> metric = WorstClassAccuracy(2)
    >>> float(metric(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])))
    0.5
    """

    higher_is_better = True

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(num_classes, **options)

    def compute(self) -> Tensor:
        """Return it over the classes that had a row; NaN without any."""
        return self._numbers()["worst_class"]
