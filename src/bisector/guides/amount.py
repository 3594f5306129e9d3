"""Normalised information amounts: bits made comparable between classes."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.checks import require_of_each_class, value_of
from bisector.errors import require, require_choice

Normalize: TypeAlias = Literal["sum", "mean", "ratio"]
NORMALIZATIONS: tuple[Normalize, ...] = ("sum", "mean", "ratio")


def normalized_amount(
    amounts: Tensor,  # (C,) bits
    normalize: Normalize = "mean",
) -> Tensor:
    r"""Return the normalised amounts :math:`I'`, (C,) float64 numbers above 1 whose mean is 2.

    .. math::
        \text{sum, mean:}\; I'_i = C\,\frac{\exp(I_i / (\bar I \sqrt C))}{\sum_j \exp(I_j / (\bar I \sqrt C))} + 1,
        \qquad \text{ratio:}\; I'_i = \frac{I_i}{\tfrac1C \sum_j I_j} + 1

    Args:
        amounts: (C,) bits, at least 0. NaN (a class that could not be measured) becomes the mean of the others.
        normalize: what :math:`\bar I` is. "sum" over the classes is what the IGAM poster prints; with it the
            margins vanish as C grows (0.0018 rad at the most at C = 20 for amounts within 50% of their mean,
            below 1e-5 at C = 1203). "mean" keeps them (0.036 rad at C = 20), but they still shrink with C.
            "ratio" leaves the exponential out: the margin of two classes depends on their amounts relative to the
            mean, and on nothing else (0.163 rad for 150% against 50%, whatever C is).

    Raises:
        ArgumentError: amounts is no vector of at least one, is negative or infinite; normalize is unknown.

    Source: Ma, Dai, Chen, ICLR 2025 (IGAM) for "sum"; the others are ours.

    >>> normalized_amount(torch.tensor([10.0, 10.0, float("nan")]))
    tensor([2., 2., 2.], dtype=torch.float64)
    """
    require_choice("normalize", normalize, NORMALIZATIONS)
    amounts = check_class_values("amounts", amounts)
    amounts = impute(amounts, missing=amounts.isnan())
    unit = amounts.sum() if normalize == "sum" else amounts.mean()
    if value_of(unit == 0):  # no class holds anything: all are alike
        return torch.full_like(amounts, 2.0)
    if normalize == "ratio":
        return amounts / unit + 1
    return len(amounts) * torch.softmax(amounts / (unit * math.sqrt(len(amounts))), dim=0) + 1


def check_class_values(name: str, values: Tensor) -> Tensor:
    """Return a vector of numbers of at least 0, or NaN, one for each class, as float64."""
    values = values.detach().to("cpu", torch.float64)
    require(values.dim() == 1 and len(values) > 0, name, f"shape {tuple(values.shape)}", "a vector (C,)")
    legal = ~((values < 0) | values.isinf())
    require_of_each_class(name, values, legal, "finite numbers of at least 0, or NaN")
    return values


def others(
    values: Tensor,  # (C,)
    index: int | None,
) -> Tensor:
    """Return the values of all classes but one, (C - 1,); of all, (C,), where that is None.

    >>> others(torch.tensor([0.0, 5.0, 7.0]), 0)
    tensor([5., 7.])
    """
    return values if index is None else torch.cat([values[:index], values[index + 1 :]])


def impute(
    values: Tensor,  # (C,)
    missing: Tensor,  # (C,) bool
) -> Tensor:
    """Replace the missing values by the mean of the others, or by 0 where there are none."""
    if not value_of(missing.any()):
        return values
    known = values[~missing]
    return torch.where(missing, known.mean() if len(known) else 0.0, values)
