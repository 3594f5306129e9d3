"""Data sets by name."""

from collections.abc import Mapping
from typing import Protocol

from bisector.data.dataset import Dataset
from bisector.data.digits import digits
from bisector.errors import require_choice


class Loader(Protocol):
    """Makes a data set whose training part has the given imbalance."""

    def __call__(self, *, imbalance: float, seed: int) -> Dataset:
        """Load, split and thin out."""


DATA_SETS: Mapping[str, Loader] = {"digits": digits}
"""The data sets that `load` knows."""


def load(name: str, *, imbalance: float = 1.0, seed: int = 0) -> Dataset:
    """Load a data set by name.

    Args:
        name: one of `DATA_SETS`.
        imbalance: training count of the commonest class over that of the rarest, at least 1.
        seed: decides the split, which classes are rare, and what is kept of them.

    Raises:
        ArgumentError: for an unknown name, with the nearest known one, or an illegal imbalance.
        MissingExtraError: if the data set needs a package that is not installed.

    >>> load("digit")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: data: got 'digit'; did you mean 'digits'? expected one of digits
    """
    require_choice("data", name, DATA_SETS)
    return DATA_SETS[name](imbalance=imbalance, seed=seed)
