"""Makes a long-tailed training set out of a balanced one."""

import math

import torch
from torch import Tensor

from bisector.errors import require


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
    require(
        available.dim() == 1 and available.numel() > 0,
        "available",
        f"shape {tuple(available.shape)}",
        "shape (C,) with C >= 1",
    )
    require(
        int(available.min()) >= 1, "available", int(available.min()), "at least 1 instance in every class"
    )
    require(math.isfinite(imbalance) and imbalance >= 1, "imbalance", imbalance, "a number of at least 1")
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
    require(
        labels.dim() == 1 and labels.numel() > 0,
        "labels",
        f"shape {tuple(labels.shape)}",
        "shape (N,) with N >= 1",
    )
    require(int(labels.min()) >= 0, "labels", int(labels.min()), "class indices from 0")
    available = torch.bincount(labels)
    counts = long_tail_counts(available, imbalance, seed)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = shuffled[labels[shuffled].argsort(stable=True)]  # class after class, each in the order drawn
    place = (
        torch.arange(len(labels)) - (available.cumsum(0) - available)[labels[shuffled]]
    )  # within its class
    return shuffled[place < counts[labels[shuffled]]].sort().values
