"""A probe: how well a plain classifier, cross-validated on the embeddings, tells each class."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bisector.data.tables.columns import Array
from bisector.errors import missing_extra
from bisector.statistics.directions import unit_rows

FOLDS = 5
"""Of the cross-validation: a class with fewer rows takes no part in it."""

WHOSE = "of a probe on these embeddings, not of your model"
"""What every accuracy of a probe is called."""


@dataclass(frozen=True, eq=False)
class Probe:
    """What a probe, asked about rows that it has not seen, said of each class.

    Args:
        probed: (C,) rows that it was asked about.
        right: (C,) those whose class was its first choice.

    >>> Probe(np.array([4, 0, 2]), np.array([3, 0, 2])).accuracies.tolist()
    [0.75, nan, 1.0]
    """

    probed: Array  # (C,)
    right: Array  # (C,)

    @property
    def accuracies(self) -> Array:  # (C,)
        """Of each class, 0 to 1; NaN of a class that it was not asked about."""
        with np.errstate(invalid="ignore"):
            found: Array = self.right / self.probed
        return found

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the classes' accuracies; NaN where it was asked about none."""
        asked = self.probed > 0
        return float(self.accuracies[asked].mean()) if asked.any() else math.nan

    @property
    def note(self) -> str:
        """What it found, in a sentence."""
        return (
            f"The accuracies that can be told are {WHOSE}: a linear discriminant, asked about "
            f"{int(self.probed.sum()):,} rows that it was not fitted to ({FOLDS} folds), is right in "
            f"{100 * self.balanced_accuracy:.1f} % of a class on average."
        )


def discriminant() -> Any:
    """The classifier of a probe: linear discriminant analysis with shrunken covariance, which has a closed form.

    Raises:
        MissingExtraError: without scikit-learn.
    """
    try:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def cross_validated(x: Array, labels: Array, classes: int) -> Array:  # (N, D), (N,) -> (N, C)
    """The probabilities that a probe gives to each row, fitted to the unit embeddings of the other folds.

    Args:
        x: embeddings.
        labels: from 0 to C - 1, each at least `FOLDS` times.
        classes: C.
    """
    judge = discriminant()
    from sklearn.model_selection import StratifiedKFold

    rows = units(x)
    probabilities = np.zeros((len(x), classes))
    for fitted, asked in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(rows, labels):
        judge.fit(rows[fitted], labels[fitted])
        probabilities[asked] = judge.predict_proba(rows[asked])
    return probabilities


def units(x: Array) -> Array:  # (N, D)
    """The rows at length 1, as a probe is given them."""
    return unit_rows(torch.from_numpy(x)).numpy()
