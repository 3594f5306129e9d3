"""How every class fares: its count, its information amount, its accuracy, its loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.data.tables import EmbeddingTable
from bisector.information.amount import information_amounts
from bisector.measurement.stream.draw import EqualDraw

FEWEST = 13
"""Rows below which no amount says much about its class, whatever the dimension; see `fewest_rows`."""

_LEFT_OUT = 0.05
"""Share of the classes that are large enough that an equal count may leave out."""

_FEWEST_CLASSES = 10
"""Classes large enough from which those that are not are left out of equal amounts."""


DRAWN_ROW = 16
"""Bytes of a row drawn for equal amounts beside its vector: its number and its class."""

_LEAST_DRAWN = 2**26
"""Bytes that the rows drawn may take whatever else is held, where there is no budget."""


def fewest_rows(dimensions: int) -> int:
    """Rows from which the amount of a class says more about the class than about its number of rows.

    `max(13, dimensions / 8)`. Of 30 to 60 classes whose spectra and lengths differ, the amounts on m rows, all
    classes alike, correlated with those on thousands of rows by

    ==========  =====  =====  =====  =====  =====
    dimensions  m = 8     13     32     64    128
    ==========  =====  =====  =====  =====  =====
            64    .89    .95    .99   1.00   1.00
           256    .55    .61    .96    .99   1.00
          1024    .65    .68    .74    .95    .99
    ==========  =====  =====  =====  =====  =====

    and at m = 13 with 256 dimensions the mean lay above the true one by 1.3 standard deviations of the classes: a
    small class seems large. So the border is no fixed number. From an eighth of the dimensions on the correlation
    was .92 or more, and what is left of the shift is what `ClassMeasure.equal_amount` and a partial correlation
    take out.

    >>> fewest_rows(64), fewest_rows(512)
    (13, 64)
    """
    return max(FEWEST, math.ceil(dimensions / 8))


def choose_equal_count(
    counts: Tensor,  # (C,)
    dimensions: int,
) -> int:
    """The number of rows to measure all classes on alike: large, and reached by nearly all that can be read.

    Of the classes with `fewest_rows` or more, the 5th percentile of the counts: more rows say more of each class,
    but leave out the classes that have fewer. Where neither half of the classes nor 10 are as large, of those with
    13 rows or more; 0 where fewer than 2 classes are.

    >>> choose_equal_count(torch.tensor([5, 200, 90, 40]), 64), choose_equal_count(torch.tensor([5, 9]), 64)
    (40, 0)
    """
    there = counts[counts > 1]
    large = there[there >= fewest_rows(dimensions)]
    if len(large) < min(_FEWEST_CLASSES, math.ceil(len(there) / 2)) or len(large) < 2:
        large = there[there >= FEWEST]
    return int(large.sort().values[int(_LEFT_OUT * len(large))]) if len(large) > 1 else 0


def affordable_equal_count(
    counts: Tensor,  # (C,)
    dimensions: int,
    memory_budget: int | None = None,
) -> int:
    """`choose_equal_count`, as far as the rows drawn leave memory for what they are drawn from.

    They may take a quarter of `memory_budget`, or without one of what the exact amounts of the classes take,
    `4 D min(n, D)` bytes each, or 64 MiB where that is more. 0 where fewer than 13 rows a class are left.

    >>> affordable_equal_count(torch.full((100,), 500), 64)
    500
    >>> affordable_equal_count(torch.full((100,), 500), 64, memory_budget=2**24)
    154
    """
    held = 4 * dimensions * int(counts.clip(max=dimensions).sum())
    room = max(_LEAST_DRAWN, held // 4) if memory_budget is None else memory_budget // 4
    row = 4 * dimensions + DRAWN_ROW
    most = room // (row * max(1, int((counts > 0).sum())))
    chosen = min(choose_equal_count(counts, dimensions), most)
    return chosen if chosen >= FEWEST else 0


@dataclass(frozen=True)
class ClassMeasure:
    """One class. What cannot be said is NaN.

    Args:
        name: of the class.
        count: rows that the amount is measured on: those of training, or all.
        tested: rows that accuracy is measured on.
        amount: information amount in bits; NaN with fewer than 2 rows.
        accuracy: 0 to 1.
        loss: mean cross-entropy in nats, of the rows that have one.
        equal_amount: the amount on as many random rows as of every other class; NaN with fewer.
        error_bound: bits that the amount is off by at most; 0 where it is exact, NaN where no bound is known.
        error_estimate: bits that it may be off by where no bound is known, an estimate that can be exceeded.
    """

    name: str
    count: int
    tested: int
    amount: float
    accuracy: float
    loss: float
    equal_amount: float = math.nan
    error_bound: float = 0.0
    error_estimate: float = math.nan


def measure_classes(
    table: EmbeddingTable,
    measured: Tensor,  # (M,) rows for counts and amounts
    tested: Tensor,  # (T,) rows for accuracy and loss
    *,
    equal_count: int = 0,
    shrinkage: str = "quadratic-inverse",
    embeddings: str = "unit",
    seed: int = 0,
) -> list[ClassMeasure]:
    """Measure every class, in the order of the labels. A row without a prediction is not tested.

    Equal amounts are those of `equal_count` rows, drawn from the seed as a stream draws them; 0 for none.

    >>> labels, ones = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.long)
    >>> table = EmbeddingTable(torch.eye(4), labels, ("a", "b"), predictions=ones)
    >>> [c.accuracy for c in measure_classes(table, torch.arange(4), torch.arange(4))]
    [0.0, 1.0]
    """
    classes = table.num_classes
    x, of = table.embeddings[measured], table.labels[measured]
    amounts = information_amounts(x, of, classes, shrinkage=shrinkage, embeddings=embeddings)
    equal = torch.full_like(amounts, math.nan)
    if equal_count >= 2:
        draw = EqualDraw(equal_count, x.shape[1], seed)
        draw.add(measured.numpy(), of.numpy(), x.numpy())
        drawn, drawn_of = draw.of_full_classes(classes, equal_count)
        if len(drawn):
            equal = information_amounts(drawn, drawn_of, classes, shrinkage=shrinkage, embeddings=embeddings)
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
        equal.tolist(),
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
