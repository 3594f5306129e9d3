"""How unequally a classifier treats its classes."""

from torch import Tensor

from bisector.errors import require


def bias(class_scores: Tensor) -> Tensor:  # (C,) -> ()
    """The population variance of the per-class score, `mean_c (100 p_c - 100 p)^2`.

    Scores are fractions, 0 to 1; the variance is in percentage points squared, so that it stands beside the
    figures of the source (25.4 for the per-class AP on LVIS). Classes with score NaN do not count; without
    any other class the bias is NaN. Part of it is chance, see `bias_corrected`.

    Source: Ma, Dai, Chen (ICLR 2025, arXiv 2502.03852), who compare heads by it.

    Raises:
        ArgumentError: if `class_scores` is not a vector of fractions.

    >>> import torch
    >>> bias(torch.tensor([0.5, 1.0]))
    tensor(625., dtype=torch.float64)
    """
    _require_fractions(class_scores)
    percent = 100 * class_scores[~class_scores.isnan()].double()
    return percent.var(correction=0) if percent.numel() else percent.mean()


def bias_corrected(
    class_scores: Tensor,  # (C,) accuracy per class, 0 to 1, NaN where unknown
    test_counts: Tensor,  # (C,) test instances per class
) -> Tensor:
    """`bias` without the part that comes from having few test instances.

    An accuracy measured on `n_c` instances scatters around the true one with the binomial variance, whose
    unbiased estimate is `v_c = p_c (1 - p_c) / (n_c - 1)`. The variance over classes therefore exceeds the
    true one by `(1 - 1/C) mean_c v_c` on average (the mean over classes takes up the other 1/C), which is
    subtracted: the result is an unbiased estimate of the bias on infinitely many test instances. It is
    reported as it is: chance can make it negative, and then the classes do not differ measurably. In
    percentage points squared. Classes with fewer than two test instances do not count, their `v_c` being
    unknown; without any other class the result is NaN.

    Raises:
        ArgumentError: if the shapes differ or the scores are not fractions.

    >>> import torch
    >>> bias_corrected(torch.tensor([0.5, 1.0]), torch.tensor([26, 9]))
    tensor(600., dtype=torch.float64)
    """
    _require_fractions(class_scores)
    require(
        test_counts.shape == class_scores.shape,
        "test_counts",
        f"shape {tuple(test_counts.shape)}",
        f"the shape of class_scores, {tuple(class_scores.shape)}",
    )
    measured = ~class_scores.isnan() & (test_counts >= 2)
    scores, counts = class_scores[measured].double(), test_counts[measured].double()
    chance = 100**2 * (scores * (1 - scores) / (counts - 1)).mean()
    return bias(scores) - (1 - 1 / max(len(scores), 1)) * chance


def _require_fractions(class_scores: Tensor) -> None:
    require(class_scores.dim() == 1, "class_scores", f"shape {tuple(class_scores.shape)}", "shape (C,)")
    known = class_scores[~class_scores.isnan()]
    legal = bool(((known >= 0) & (known <= 1)).all())
    require(legal, "class_scores", class_scores.tolist(), "fractions from 0 to 1, or NaN")
