"""Class sizes as LVIS has them: from one instance to tens of thousands."""

import torch
from torch import Tensor

from bisector.errors import require_integer

LVIS_CLASSES = 1203
LVIS_INSTANCES = 1_270_141

# Of LVIS v1's training part: 337 rare classes (at most 10 images), 461 common ones (at most 100), 405 frequent
# ones, the largest of them with 50,552 instances. A group's last class has somewhat more instances than images.
SHARES = (0.0, 337 / LVIS_CLASSES, 798 / LVIS_CLASSES, 1.0)
INSTANCES = (1.0, 13.0, 170.0, 50_552.0)
CURVATURE = 3.55  # of the frequent classes; with it there are LVIS_INSTANCES in all


def lvis_like_counts(
    rows: int,
    classes: int = LVIS_CLASSES,
) -> Tensor:
    """Instances of each class, smallest class first: (C,) int64 that sum to `rows`.

    The logarithm of a class's size is linear in its rank among the rare and among the common classes, and a power
    of it among the frequent ones. Other numbers of rows scale the sizes, other numbers of classes take ranks
    between; every class keeps an instance.

    Args:
        rows: N, at least the number of classes.
        classes: C, at least 1.

    Raises:
        ArgumentError: if a number is too small.

    >>> counts = lvis_like_counts(1_270_141)
    >>> counts.min().item(), counts.median().item(), counts.max().item()
    (1, 56, 49334)
    """
    require_integer("classes", classes, least=1)
    require_integer("rows", rows, least=classes)
    sizes = _instances((torch.arange(classes, dtype=torch.float64, device="cpu") + 0.5) / classes)
    # One for each class, the others in proportion, those that rounding leaves to the largest.
    more = sizes - 1
    counts = 1 + (more * ((rows - classes) / more.sum())).floor().long()
    left = rows - int(counts.sum())
    counts[classes - left :] += 1
    return counts


def _instances(
    share: Tensor,  # (C,), of the classes that are smaller
) -> Tensor:
    """Return the sizes at these ranks: (C,)."""
    logarithms = torch.tensor(INSTANCES, dtype=torch.float64, device="cpu").log()
    sizes = torch.empty_like(share)
    for group in range(3):
        low, high = SHARES[group : group + 2]
        within = (share >= low) & (share <= high)
        part = (share[within] - low) / (high - low)
        part = part**CURVATURE if group == 2 else part
        sizes[within] = logarithms[group] + (logarithms[group + 1] - logarithms[group]) * part
    return sizes.exp()
