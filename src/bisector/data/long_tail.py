"""Draws so many examples of each class, and as many as make a long tail."""

import torch
from torch import Tensor

from bisector.errors import require, require_number


def long_tail_counts(
    available: Tensor,  # (C,) instances per class
    imbalance: float,
    seed: int,
) -> Tensor:  # (C,)
    """How many instances of each class an exponential long tail keeps.

    `n_c = n_max * imbalance^(-rank_c / (C - 1))`, rounded, at least 1, so that the commonest class has
    `imbalance` times as many as the rarest (Cui et al. 2019). Which class has which rank is drawn from the
    seed: the profile then says nothing about how hard a class is. `n_max` is the largest integer for which
    no class needs more instances than it has; the profile is therefore never cut off, and `imbalance=1` gives
    every class the count of the smallest one.

    Args:
        available: instances per class, each at least 1.
        imbalance: count of the commonest class over that of the rarest, at least 1.
        seed: decides the order of the classes.

    Raises:
        ArgumentError: if a class has no instance or the imbalance is below 1 or not finite.

    >>> long_tail_counts(torch.tensor([500, 500, 500]), imbalance=100, seed=0).sort().values
    tensor([  5,  50, 500])
    """
    _require_vector("available", available, "C")
    least = int(available.min())
    require(least >= 1, "available", least, "at least 1 instance in every class")
    require_number("imbalance", imbalance, least=1)
    classes = len(available)
    rank = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    share = float(imbalance) ** (-rank.double() / max(classes - 1, 1))
    # The tolerance keeps a quotient that is a whole number but for its rounding error from losing one.
    most = (available / share + 1e-6).floor().min()
    return (most * share).round().clamp(min=1).long()


def long_tail_indices(
    labels: Tensor,  # (N,) class indices
    imbalance: float,
    seed: int,
) -> Tensor:  # (M,)
    """Draw a long-tailed subset: the indices of the instances kept, ascending.

    Each class c keeps `long_tail_counts` of its instances, drawn from the seed. The classes are those from 0
    to the largest label.

    Raises:
        ArgumentError: if a class has no instance or the imbalance is below 1 or not finite.

    >>> labels = torch.arange(3).repeat(500)
    >>> labels[long_tail_indices(labels, imbalance=100, seed=0)].bincount().sort().values
    tensor([  5,  50, 500])
    """
    _require_vector("labels", labels, "N")
    require(int(labels.min()) >= 0, "labels", int(labels.min()), "class indices from 0")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    counts = long_tail_counts(torch.bincount(labels), imbalance, seed)
    return first_of_each_class(order, labels, counts).nonzero()[:, 0]


def first_of_each_class(
    order: Tensor,  # (N,) a permutation
    labels: Tensor,  # (N,)
    counts: Tensor,  # (C,)
) -> Tensor:  # (N,)
    """Mark those of the examples that are among the first `counts[c]` of their class c in an order.

    >>> labels = torch.tensor([0, 1, 0, 0])
    >>> first_of_each_class(torch.tensor([3, 2, 1, 0]), labels, torch.tensor([2, 1]))
    tensor([False,  True,  True,  True])
    """
    by_class = order[labels[order].argsort(stable=True)]  # class after class, each in the order
    sizes = torch.bincount(labels, minlength=len(counts))
    place = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels[by_class]]  # within its class
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[by_class] = place < counts[labels[by_class]]
    return chosen


def _require_vector(name: str, values: Tensor, size: str) -> None:
    shape = tuple(values.shape)
    require(
        values.dim() == 1 and len(values) > 0, name, f"shape {shape}", f"shape ({size},) with {size} >= 1"
    )
