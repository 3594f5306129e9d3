"""Rare, common and frequent classes."""

from torch import Tensor

RARE, COMMON = 10, 100  # images at most; LVIS v1


def frequency_groups(image_counts: Tensor) -> tuple[str, ...]:  # (C,)
    """LVIS's group of each class: "r" up to 10 training images, "c" up to 100, "f" above (Gupta et al. 2019).

    Args:
        image_counts: (C,) in how many training images each class is; one of none is called rare.

    >>> import torch
    >>> frequency_groups(torch.tensor([0, 10, 11, 100, 101]))
    ('r', 'r', 'c', 'c', 'f')
    """
    return tuple("r" if n <= RARE else "c" if n <= COMMON else "f" for n in image_counts.tolist())
