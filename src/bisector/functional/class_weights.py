"""Class weights from counts: how much a row of each class counts in the loss."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.checks import require_of_each_class
from bisector.errors import require, require_choice, require_number

ClassWeighting: TypeAlias = Literal["auto", "effective"]
CLASS_WEIGHTINGS: tuple[ClassWeighting, ...] = ("auto", "effective")


def class_weights(
    counts: Tensor,  # (C,)
    how: ClassWeighting = "auto",
    *,
    beta: float = 0.999,
) -> Tensor:
    r"""Return a weight for each class, larger for rarer ones, whose mean over the training rows is 1.

    .. math::
        \text{auto:}\; w_c \propto \frac{1}{n_c}, \qquad
        \text{effective:}\; w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}, \qquad
        \frac{\sum_c n_c w_c}{\sum_c n_c} = 1

    "auto" gives every class the same share of the loss: where every class has rows it is scikit-learn's
    ``class_weight="balanced"``. "effective" weighs by the "effective number" of rows (Cui et al., CVPR 2019, who
    scale the weights to the sum C instead) and lies between "auto" (beta near 1) and no weights (beta = 0). The
    scale cancels out of a weighted mean, which the loss of every head is by default.

    Args:
        counts: (C,) training rows of each class; a class without any counts as one with one row.
        how: "auto" or "effective".
        beta: of "effective", in [0, 1).

    Returns:
        (C,) float64 weights, for ``weight=`` of a head or of `torch.nn.functional.cross_entropy`.

    Raises:
        ArgumentError: an argument is not legal, or there are no rows.

    >>> class_weights(torch.tensor([90, 10]))
    tensor([0.5556, 5.0000], dtype=torch.float64)
    """
    require_choice("how", how, CLASS_WEIGHTINGS)
    beta = require_number("beta", beta, least=0)
    require(beta < 1, "beta", beta, "a number in [0, 1)")
    legal = isinstance(counts, Tensor) and counts.dim() == 1 and not counts.is_complex()
    require(legal, "counts", getattr(counts, "shape", counts), "a vector (C,)")
    rows = counts.detach().to("cpu", torch.float64)
    require_of_each_class("counts", rows, (rows >= 0) & rows.isfinite(), "finite numbers of at least 0")
    require(bool((rows > 0).any()), "counts", "no rows", "rows of at least one class")
    some = rows.clamp_min(1)
    # 1 - beta^n by expm1, which keeps its digits where beta is near 1.
    log_beta = torch.tensor(beta, dtype=torch.float64).log()
    weights = 1 / some if how == "auto" else (1 - beta) / -torch.expm1(some * log_beta)
    return weights * rows.sum() / (rows * weights).sum()
