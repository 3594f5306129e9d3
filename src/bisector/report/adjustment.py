"""What a post-hoc adjustment changes: the table before and after, and the file of the adjusted scores."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.embeddings import write_embeddings
from bisector.data.scores import ScoreTable
from bisector.files import whole_file
from bisector.metrics.bias import bias, bias_corrected
from bisector.metrics.groups import class_accuracy, group_accuracy, groups, worst_class
from bisector.metrics.summary import METRICS
from bisector.report.summary import metric_value
from bisector.report.table import Table


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
    rows = []
    for info in (info for info in METRICS if info.key in before):
        old, new = before[info.key], after[info.key]
        change = metric_value(info, new - old)
        sign = "+" * (math.isfinite(new - old) and not change.startswith("−"))
        values = [metric_value(info, old), metric_value(info, new), sign + change]
        rows.append([f"{info.label} {info.unit}".rstrip(), *values])
    lines = [Table(["", "before", "after", "change"], rows).text(rule=False)]
    key = "balanced_accuracy"
    if after.get(key, 0.0) < before.get(key, 0.0):
        lines.append("The balanced accuracy is lower than before: these offsets do not help here.")
    return "\n\n".join(lines)


def write_adjusted(
    table: ScoreTable,
    scores: Tensor,  # (N, C)
    predictions: Tensor,  # (N,)
    adjusted: str,
    folder: Path,
) -> Path:
    """Write adjusted.parquet for a table of embeddings, else adjusted.npz; return its path.

    The file says how the scores were adjusted, before too, and by which head they were made.

    Args:
        table: the scores before.
        scores: after, of the same kind; NaN in the rows that have none.
        predictions: the classes after; -1 in those rows.
        adjusted: how they were adjusted; the file says so, by that name.
        folder: that there is.

    Raises:
        OSError: the file cannot be written.
    """
    adjusted = "; then ".join(filter(None, [table.adjusted, adjusted]))
    if table.embeddings is not None:
        path = folder / "adjusted.parquet"
        losses = cross_entropy(scores, table.embeddings.labels, reduction="none")
        after = replace(
            table.embeddings, scores=scores, predictions=predictions, losses=losses, adjusted=adjusted
        )
        write_embeddings(after, path)
        return path
    path = folder / "adjusted.npz"
    arrays: dict[str, Any] = {
        table.kind: scores.numpy(),
        "predictions": predictions.numpy(),
        "class_names": np.array(table.class_names),
        "adjusted": np.array(adjusted),
    }
    if table.head:
        arrays["head"] = np.array(json.dumps(dict(table.head)))
    if table.labels is not None:
        arrays["labels"] = table.labels.numpy()
    if table.splits is not None:
        arrays["splits"] = np.array(table.splits)
    with whole_file(path) as file:
        np.savez(file, **arrays)
    return path
