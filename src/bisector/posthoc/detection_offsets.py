"""The offsets of the training prior for a detector, at the level that keeps the expected number of boxes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bisector.checks import require_of_each_class
from bisector.errors import ArgumentError, require, require_number
from bisector.posthoc.adjustment import Adjustment
from bisector.posthoc.dispatch import adjust


def offsets_from_counts(
    class_counts: Tensor | Sequence[float],  # (C,)
    tau: float = 1.0,
    class_names: Sequence[str] = (),
) -> Adjustment:
    r"""Return the offsets that take the training counts out again, for a detector.

    .. math:: b_c = -\tau \log n_c + \log \frac{\sum_k n_k}{\sum_k n_k^{1 - \tau}}

    These are those of ``adjust(method="prior")`` at the level where :math:`\sum_c n_c e^{b_c} = \sum_c n_c`: as
    many boxes as in training are expected, only of other classes. At tau = 1 it is
    :math:`b_c = -\log(n_c / \bar n)`. A softmax over the classes does not see the level; independent sigmoids do.

    Args:
        class_counts: training boxes of each class, without the background; a class without any counts as the
            rarest of the others.
        tau: strength, at least 0.
        class_names: to be kept with the adjustment.

    Raises:
        ArgumentError: the counts are no counts, or tau is negative.

    >>> offsets_from_counts([90, 9, 1]).offsets.exp()
    tensor([ 0.3704,  3.7037, 33.3333], dtype=torch.float64)
    """
    require_number("tau", tau, least=0)
    try:
        counts = torch.as_tensor(class_counts, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(f"class_counts: got {type(class_counts).__name__}; expected numbers") from None
    fits = counts.dim() == 1 and len(counts) > 0
    require(fits, "class_counts", f"shape {tuple(counts.shape)}", "(C,)")
    even = torch.full((1, len(counts)), 1 / len(counts), dtype=torch.float64, device="cpu")
    found = adjust(
        even,
        method="prior",
        kind="probabilities",
        class_counts=counts,
        tau=tau,
        class_names=tuple(class_names),
    )
    counts = counts.where(counts > 0, counts[counts > 0].min())
    return replace(found, offsets=level_offsets(found.offsets, counts))


def level_offsets(
    offsets: Tensor,  # (C,)
    class_counts: Tensor,  # (C,)
) -> Tensor:
    r"""Shift offsets, all by one number, so that :math:`\sum_c n_c e^{b_c} = \sum_c n_c`; float64.

    For offsets that were found in another way (fitted, from amounts) and shall go on independent sigmoids: the
    expected number of boxes stays what it was.

    Raises:
        ArgumentError: the shapes differ, or a count is negative or none is above 0.

    >>> level_offsets(torch.tensor([0.0, 0.0]), torch.tensor([3, 1]))
    tensor([0., 0.], dtype=torch.float64)
    """
    b, counts = offsets.to("cpu", torch.float64), class_counts.to("cpu", torch.float64)
    same = b.dim() == 1 and b.shape == counts.shape
    require(same, "class_counts", f"shape {tuple(counts.shape)}", f"that of the offsets, {tuple(b.shape)}")
    require_of_each_class("class_counts", counts, (counts >= 0) & counts.isfinite(), "numbers of at least 0")
    require(bool((counts > 0).any()), "class_counts", "0 for every class", "at least one training box")
    return b + counts.sum().log() - (counts.log() + b).logsumexp(0)
