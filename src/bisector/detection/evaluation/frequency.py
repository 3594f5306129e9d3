"""Classes by how much of them there was in training, and the mean score of each group."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bisector.data.boxes import frequency_groups
from bisector.errors import require
from bisector.metrics.bias import bias

FREQUENCIES = ("rare", "common", "frequent")
"""LVIS's groups, as its file says, else by training images: up to 10, to 100, more (Gupta et al. 2019)."""

BOX_GROUPS = ("1-19", "20-399", "400-7999", "8000+")
"""COCO-LT's groups, by training boxes (Wang et al. 2020)."""

_LETTERS = {name[0]: name for name in FREQUENCIES}


def frequencies(
    letters: Sequence[str] | None,  # (C,)
    train_image_counts: Tensor | None,  # (C,)
) -> tuple[str, ...] | None:
    """Whether each class is rare, common or frequent, as the file says, else by its training images.

    A class without any training image is rare. None where neither is known.

    Args:
        letters: of "r", "c" and "f", as LVIS's files have them; they go before the counts.
        train_image_counts: training images that show the class.

    Raises:
        ArgumentError: if a letter is none of the three.

    >>> frequencies(None, torch.tensor([0, 10, 11, 101]))
    ('rare', 'rare', 'common', 'frequent')
    """
    if letters is None and train_image_counts is not None:
        letters = frequency_groups(train_image_counts)
    for letter in letters or ():
        require(letter in _LETTERS, "frequency", repr(letter), "r, c or f")
    return None if letters is None else tuple(_LETTERS[letter] for letter in letters)


def box_groups(train_counts: Tensor | None) -> tuple[str, ...] | None:  # (C,)
    """Which of COCO-LT's groups each class is in; one without any training box is in the first.

    >>> box_groups(torch.tensor([0, 19, 20, 8000]))
    ('1-19', '1-19', '20-399', '8000+')
    """
    if train_counts is None:
        return None
    return tuple(BOX_GROUPS[(n >= 20) + (n >= 400) + (n >= 8000)] for n in train_counts.tolist())


def group_means(
    class_scores: Tensor,  # (C,)
    members: Sequence[str] | None,  # (C,)
    groups: Sequence[str],
) -> dict[str, float]:
    """The mean score of the classes of each group; NaN scores do not count, and NaN is the mean of none.

    >>> group_means(torch.tensor([0.5, 0.25, 0.75]), ["rare", "common", "rare"], FREQUENCIES)
    {'rare': 0.625, 'common': 0.25, 'frequent': nan}
    """
    of = list(members or [""] * len(class_scores))
    masks = {group: torch.tensor([member == group for member in of], dtype=torch.bool) for group in groups}
    return {group: float(class_scores[mask].nanmean()) for group, mask in masks.items()}


def class_bias(class_scores: Tensor) -> float:  # (C,)
    """`bisector.metrics.bias.bias`, and NaN where fewer than two classes have a score: one is not biased.

    >>> class_bias(torch.tensor([0.5, 1.0])), class_bias(torch.tensor([0.5, torch.nan]))
    (625.0, nan)
    """
    known = class_scores[~class_scores.isnan()]
    return float(bias(known)) if len(known) > 1 else math.nan
