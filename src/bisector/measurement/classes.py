"""How every class fares: its count, its information amount, its accuracy, its loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.data.embeddings import EmbeddingTable
from bisector.information.amount import information_amounts

FEWEST = 13
"""Rows from which the amount of a class says more about the class than about its number of rows."""


@dataclass(frozen=True)
class ClassMeasure:
    """One class. What cannot be said is NaN.

    Args:
        name: of the class.
        count: rows that the amount is measured on: those of training, or all.
        tested: rows that accuracy is measured on.
        amount: information amount in bits, of unit embeddings; NaN with fewer than 2 rows.
        accuracy: 0 to 1.
        loss: mean cross-entropy in nats, of the rows that have one.
    """

    name: str
    count: int
    tested: int
    amount: float
    accuracy: float
    loss: float


def measure_classes(
    table: EmbeddingTable,
    measured: Tensor,  # (M,) rows for counts and amounts
    tested: Tensor,  # (T,) rows for accuracy and loss
) -> list[ClassMeasure]:
    """Measure every class, in the order of the labels. A row without a prediction is not tested.

    >>> labels, ones = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.long)
    >>> table = EmbeddingTable(torch.eye(4), labels, ("a", "b"), predictions=ones)
    >>> [c.accuracy for c in measure_classes(table, torch.arange(4), torch.arange(4))]
    [0.0, 1.0]
    """
    classes = table.num_classes
    amounts = information_amounts(
        table.embeddings[measured], table.labels[measured], classes, embeddings="unit"
    )
    counts = torch.bincount(table.labels[measured], minlength=classes)
    if table.predictions is not None:
        tested = tested[table.predicted[tested]]
    labels = table.labels[tested]
    correct = None if table.predictions is None else table.predictions[tested] == labels
    losses = None if table.losses is None else table.losses[tested]
    columns = (
        counts.tolist(),
        torch.bincount(labels, minlength=classes).tolist(),
        amounts.tolist(),
        class_means(correct, labels, classes).tolist(),
        class_means(losses, labels, classes).tolist(),
    )
    return [ClassMeasure(name, *values) for name, *values in zip(table.class_names, *columns, strict=True)]


def class_means(values: Tensor | None, labels: Tensor, classes: int) -> Tensor:  # (N,), (N,) -> (C,)
    """The mean of every class's values, float64; a value that is NaN is none, and NaN the mean of none.

    >>> class_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3)
    tensor([2., nan, 5.], dtype=torch.float64)
    """
    if values is None:
        return torch.full((classes,), math.nan, dtype=torch.float64)
    there = ~values.isnan()
    values, labels = values[there], labels[there]
    sums = torch.zeros(classes, dtype=torch.float64).index_add_(0, labels, values.double())
    return sums / torch.bincount(labels, minlength=classes)


def hardest(classes: Sequence[ClassMeasure]) -> list[ClassMeasure]:
    """The classes with an accuracy, the lowest first; of equal ones the one with the higher loss."""
    known = [one for one in classes if math.isfinite(one.accuracy)]
    return sorted(known, key=lambda one: (one.accuracy, -one.loss if math.isfinite(one.loss) else 0.0))
