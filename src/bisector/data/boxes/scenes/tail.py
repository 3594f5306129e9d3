"""How many objects of each class, and in which picture."""

import torch
from torch import Tensor

from bisector.data.keyed import keyed_permutation, keyed_uniform
from bisector.errors import require


def tail_counts(
    total: int,
    order: Tensor,  # (C,) the rank of each class, 0 the commonest
    imbalance: float,
    least: int = 1,
) -> Tensor:  # (C,)
    """Divide `total` objects: ``n_c`` proportional to ``imbalance^(-rank_c / (C - 1))``, and not below `least`.

    Raises:
        ArgumentError: there are fewer objects than classes.

    >>> tail_counts(111, torch.tensor([1, 0, 2]), imbalance=100)
    tensor([ 10, 100,   1])
    """
    classes = len(order)
    enough = f"at least {least} for each of {classes} classes"
    require(total >= least * classes, "pictures", f"{total} objects in all", enough)
    share = imbalance ** (-order.double() / max(classes - 1, 1))
    exact = share / share.sum() * total
    counts = exact.floor().clamp(min=least).long()
    most = (exact - counts).argsort(descending=True, stable=True)
    missing = total - int(counts.sum())
    counts[most[: max(missing, 0)]] += 1
    for _ in range(-missing):  # for those that got the least although their share is less
        counts[counts.argmax()] -= 1
    return counts


def deal(
    counts: Tensor,  # (C,)
    sizes: Tensor,  # (N,) objects in each picture, as many in all
    seed: int,
    part: int,
) -> list[Tensor]:  # N of (objects,) classes from 0
    """Deal objects to pictures, shuffled."""
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    return list(torch.split(labels[keyed_permutation(seed, part, len(labels))], sizes.tolist()))


def picture_sizes(pictures: int, fewest: int, most: int, seed: int, part: int) -> Tensor:  # (N,)
    """How many objects each picture gets: `fewest` to `most`, each as likely."""
    drawn = keyed_uniform(seed, part, torch.arange(pictures), 1, "how many")[:, 0]
    return fewest + (drawn.double() * (most - fewest + 1)).long()
