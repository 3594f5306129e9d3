"""The same accuracies from a stream of batches, on one process or many."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bisector.errors import missing_extra
from bisector.metrics.groups import correct_and_total, group_accuracy, groups, worst_class

try:
    from torchmetrics import Metric
except ImportError:
    raise missing_extra("torchmetrics", "train") from None


class GroupAccuracy(Metric):
    """Accuracy overall, balanced, by group of training counts, and of the worst class, 0 to 1.

    `compute` gives a dictionary with the keys `accuracy`, `balanced_accuracy`, `many`, `medium`, `few` and
    `worst_class`. The state is two counts per class, so that the result depends on neither the batches nor
    the number of processes.

    Args:
        train_counts: training instances per class, (C,); they decide the groups.
        thresholds: `(low, high)` or `None` for thirds, as in `groups`.

    Raises:
        ArgumentError: on illegal counts or thresholds; on update, if an index is not a class.

    >>> metric = GroupAccuracy([900, 50, 7])
    >>> metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    >>> metric.update(torch.tensor([0, 2]), torch.tensor([2, 2]))
    >>> metric.compute()["few"]
    tensor(0.5000, dtype=torch.float64)
    """

    full_state_update = False
    higher_is_better = True
    correct: Tensor  # (C,)
    total: Tensor  # (C,)

    def __init__(
        self, train_counts: Sequence[int] | Tensor, thresholds: tuple[float, float] | None = None
    ) -> None:
        super().__init__()
        counts = torch.as_tensor(train_counts)
        self.groups = groups(counts, thresholds)
        for name in ("correct", "total"):
            self.add_state(
                name, torch.zeros(len(counts), dtype=torch.long, device="cpu"), dist_reduce_fx="sum"
            )

    def update(
        self,
        predictions: Tensor,  # (B,) class indices
        labels: Tensor,  # (B,) class indices
    ) -> None:
        """Count one batch."""
        correct, total = correct_and_total(predictions, labels, len(self.total))
        self.correct += correct
        self.total += total

    def compute(self) -> dict[str, Tensor]:
        """The accuracies of everything counted since the last reset."""
        by_class = self.correct.double() / self.total
        return {
            "accuracy": self.correct.sum().double() / self.total.sum(),
            "balanced_accuracy": by_class.nanmean(),
            **group_accuracy(by_class, self.groups),
            "worst_class": worst_class(by_class),
        }
