"""What a post-hoc adjustment changes: the table before and after, and the file of the adjusted scores."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.tables.scores import AnyScores, ScoreTable, StoredScores
from bisector.files import whole_file
from bisector.metrics.groups import class_accuracy
from bisector.metrics.summary import FIRST_METRICS, MetricInfo
from bisector.report.summary import metric_value
from bisector.report.table import Table
from bisector.report.words import percent, shorten
from bisector.statistics.bootstrap import Estimate

_CHANGED, _NAME = 4, 40  # classes in a line, letters of a name


def format_adjustment(
    before: Mapping[str, float], after: Mapping[str, float], changes: Mapping[str, Estimate] | None = None
) -> str:
    """Both side by side, with the difference and its 95% interval, where that is known.

    >>> print(format_adjustment({"accuracy": 0.8, "spread": 0.04}, {"accuracy": 0.75, "spread": 0.01}))
                before  after  change
    Accuracy %    80.0   75.0    −5.0
    Spread pp      4.0    1.0    −3.0
    >>> change = {"accuracy": Estimate(-0.05, -0.08, 0.01)}
    >>> print(format_adjustment({"accuracy": 0.8}, {"accuracy": 0.75}, change))
                before  after  change  95% interval
    Accuracy %    80.0   75.0    −5.0  −8.0 to +1.0
    """
    rows = []
    for info in (info for info in FIRST_METRICS if info.key in before):
        old, new = before[info.key], after[info.key]
        values = [metric_value(info, old), metric_value(info, new), _signed(info, new - old)]
        if changes is not None:
            one = changes[info.key]
            known = math.isfinite(one.low) and math.isfinite(one.high)
            values.append(f"{_signed(info, one.low)} to {_signed(info, one.high)}" if known else "")
        rows.append([f"{info.label} {info.unit}".rstrip(), *values])
    headings = ["", "before", "after", "change", *["95% interval"] * (changes is not None)]
    lines = [Table(headings, rows).text(rule=False)]
    key = "balanced_accuracy"
    if after.get(key, 0.0) < before.get(key, 0.0):
        lines.append("The balanced accuracy is lower than before: this does not help here.")
    elif changes is not None and "accuracy" in changes and changes["accuracy"].high < 0:
        lines.append("The plain accuracy is lower than before: that is the price here.")
    return "\n\n".join(lines)


def changed_classes(
    names: Sequence[str],  # (C,)
    before: Tensor,  # (N,)
    after: Tensor,  # (N,)
    labels: Tensor,  # (N,)
) -> str:
    """Which classes gain and which lose most in accuracy, a line each; nothing where no class changes.

    >>> labels = torch.tensor([0, 0, 0, 1, 1])
    >>> print(changed_classes(["owl", "wren"], torch.zeros(5).long(), torch.tensor([0, 0, 1, 1, 0]), labels))
    Gain most: wren 0.0 to 50.0 % of 2
    Lose most: owl 100.0 to 66.7 % of 3
    """
    tested = torch.bincount(labels, minlength=len(names))
    old, new = (class_accuracy(predicted, labels, len(names)) for predicted in (before, after))
    change = (new - old).nan_to_num(0.0)
    lines = []
    for title, sign in (("Gain most", 1), ("Lose most", -1)):
        order = (sign * change).argsort(descending=True, stable=True)[:_CHANGED].tolist()
        told = [
            f"{shorten(names[c], _NAME)} {percent(float(old[c]))} to {percent(float(new[c]))} %"
            f" of {int(tested[c]):,}"
            for c in order
            if sign * change[c] > 0
        ]
        lines += [f"{title}: {', '.join(told)}"] * bool(told)
    return "\n".join(lines)


def _signed(info: MetricInfo, value: float) -> str:
    text = metric_value(info, value)
    return "+" * (math.isfinite(value) and not text.startswith("−")) + text


def write_adjusted(
    table: AnyScores,
    blocks: Iterable[tuple[ScoreTable, Tensor, Tensor]],  # (n, C), (n,)
    adjusted: str,
    folder: Path,
) -> Path:
    """Write adjusted.parquet for a stored table, else adjusted.npz, whole or not at all; return its path.

    The file says how the scores were adjusted, before too, and by which head they were made.

    Args:
        table: what was adjusted.
        blocks: all its rows in their order, their scores and predictions after; of a stored table one block is in
            memory at a time.
        adjusted: what was done.
        folder: that is written to.
    """
    adjusted = "; then ".join(filter(None, [table.adjusted, adjusted]))
    if isinstance(table, StoredScores):
        path = folder / "adjusted.parquet"
        _write_parquet(table, blocks, adjusted, path)
        return path
    path = folder / "adjusted.npz"
    parts = [(scores.numpy(), predictions.numpy()) for _, scores, predictions in blocks]
    arrays: dict[str, Any] = {
        table.kind: np.concatenate([scores for scores, _ in parts]),
        "predictions": np.concatenate([predictions for _, predictions in parts]),
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


def _write_parquet(
    table: StoredScores, blocks: Iterable[tuple[ScoreTable, Tensor, Tensor]], adjusted: str, path: Path
) -> None:
    from bisector.data.tables.writer import EmbeddingWriter, group_rows

    about = table.stored.about | {"adjusted": adjusted}
    size = group_rows(max(table.dim, len(table.class_names)))
    with EmbeddingWriter(
        path, class_names=table.class_names, left_out=table.left_out, group_rows=size, **about
    ) as writer:
        for block, scores, predictions in blocks:
            rows = block.embeddings
            assert rows is not None
            writer.write(
                rows.embeddings,
                rows.labels,
                predictions=predictions,
                losses=cross_entropy(scores, rows.labels, reduction="none"),
                scores=scores,
                names=rows.names,
                splits=rows.splits,
            )
