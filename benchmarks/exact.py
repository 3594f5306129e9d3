"""Amounts by other means than ours: numpy in float64, with scikit-learn's shrinkages."""

from collections.abc import Callable, Mapping
from math import log
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bisector.errors import missing_extra

Rows: TypeAlias = NDArray[Any]


def amount_of(covariance: Rows) -> float:
    """Return `1/2 log2 det(I + Sigma)` in bits.

    >>> amount_of(np.diag([3.0, 15.0]))
    3.0
    """
    sign, logarithm = np.linalg.slogdet(np.eye(len(covariance)) + covariance)
    return float(logarithm) / (2 * log(2)) if sign > 0 else float("nan")


def empirical(rows: Rows) -> float:
    """Return the amount with scikit-learn's covariance as it is, in the precision of the rows."""
    return amount_of(_covariance().empirical_covariance(rows))


def ledoit_wolf(rows: Rows) -> float:
    """Return the amount with scikit-learn's Ledoit-Wolf estimator, in the precision of the rows."""
    return amount_of(_covariance().LedoitWolf(store_precision=False).fit(rows).covariance_)


def oas(rows: Rows) -> float:
    """Return the amount with scikit-learn's OAS estimator, in the precision of the rows."""
    return amount_of(_covariance().OAS(store_precision=False).fit(rows).covariance_)


def _covariance() -> Any:
    try:
        from sklearn import covariance
    except ImportError:
        raise missing_extra("scikit-learn", "bench") from None
    return covariance


SCIKIT_LEARN: Mapping[str, Callable[[Rows], float]] = {
    "none": empirical,
    "ledoit-wolf": ledoit_wolf,
    "oas": oas,
}
"""scikit-learn's way to the amount, by the name of the shrinkage here."""


def exact_amount(rows: Rows, shrinkage: str) -> float:
    """Return a class's amount in bits, from its rows in float64.

    With numpy and scikit-learn for `none`, `ledoit-wolf` and `oas`; the nonlinear shrinkages are ours, on the exact
    eigenvalues.

    Args:
        rows: (m, p), at least 2.
        shrinkage: one of `bisector.statistics.shrinkage.SHRINKAGES`.
    """
    precise = np.asarray(rows, dtype=np.float64)
    if shrinkage in SCIKIT_LEARN:
        return SCIKIT_LEARN[shrinkage](precise)
    import torch

    from bisector.information.amount import information_amount

    return float(information_amount(torch.from_numpy(precise), shrinkage=shrinkage))
