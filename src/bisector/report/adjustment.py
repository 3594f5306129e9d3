"""The table before and after a post-hoc adjustment."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bisector.metrics.bias import bias, bias_corrected
from bisector.metrics.groups import class_accuracy, group_accuracy, groups, worst_class
from bisector.metrics.summary import METRICS
from bisector.report.summary import format_value


def fairness(
    predictions: Tensor,  # (N,)
    labels: Tensor,  # (N,)
    num_classes: int,
    train_counts: Tensor | None = None,  # (C,)
) -> dict[str, float]:
    """Those of `bisector.metrics.summary.METRICS` that predictions alone tell, by key and in their order.

    Without training counts there are no groups of many, medium and few.

    >>> found = fairness(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
    >>> found["balanced_accuracy"], found["worst_class"]
    (0.75, 0.5)
    """
    by_class = class_accuracy(predictions, labels, num_classes)
    found = {
        "accuracy": (predictions == labels).double().mean(),
        "balanced_accuracy": by_class.nanmean(),
        **({} if train_counts is None else group_accuracy(by_class, groups(train_counts))),
        "worst_class": worst_class(by_class),
        "bias": bias(by_class),
        "bias_corrected": bias_corrected(by_class, torch.bincount(labels, minlength=num_classes)),
    }
    return {key: float(value) for key, value in found.items()}


def format_adjustment(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Both side by side, with the difference.

    >>> print(format_adjustment({"accuracy": 0.8, "bias": 40.0}, {"accuracy": 0.75, "bias": 10.0}))
                before  after  change
    Accuracy %    80.0   75.0    −5.0
    Bias pp²      40.0   10.0   −30.0
    """
    rows = [["", "before", "after", "change"]]
    for info in METRICS:
        if info.key not in before:
            continue
        old, new = before[info.key], after[info.key]
        change = format_value(info, new - old)
        sign = "+" if math.isfinite(new - old) and not change.startswith("-") else ""
        cells = [f"{info.label} {info.unit}".rstrip(), format_value(info, old), format_value(info, new)]
        rows.append([cell.replace("-", "−") for cell in [*cells, sign + change]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]
    key = "balanced_accuracy"
    if after.get(key, 0.0) < before.get(key, 0.0):
        lines += ["", "The balanced accuracy is lower than before: these offsets do not help here."]
    return "\n".join(lines)
