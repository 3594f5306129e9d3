"""A guide: a positive number for each class turned into a margin for each pair of classes."""

import math

from torch import Tensor

from bisector.errors import require, require_number
from bisector.functional.margins import Direction, PairwiseMargin
from bisector.guides.amount import check_class_values


def pairwise_guide(
    values: Tensor,  # (C,)
    *,
    gain: float | None = None,
    max_margin: float | None = None,
    direction: Direction = "relax",
    clip: float = math.pi / 2,
) -> PairwiseMargin:
    r"""Return the pairwise margins that a positive number for each class guides.

    .. math:: g_i = \frac{\mathrm{gain}}{\pi} \log v_i, \qquad m_{ij} = \max(0, g_i - g_j)

    With normalised amounts as values it is IGAM's guide; with weight norms and gain alpha, C2AM's; with
    instance counts, the control that knows nothing but the counts.

    Args:
        values: (C,) numbers of at least 0. A class of value 0 or NaN says nothing about itself: its g is the
            mean of the others'.
        gain: multiplies g; 1 if None. Cannot be combined with `max_margin`.
        max_margin: radians in [0, pi]; stretches g so that the largest margin is this one, however many classes
            there are and however small the spread of their values: nearly equal values, whose differences may be
            mere noise, get the full margin too. Only equal ones get none.
        direction: "relax" or "press", see `PairwiseMargin`.
        clip: radians in (0, pi]; without `max_margin`, no margin becomes larger: values further above the
            smallest one count as being just so far above it.

    Returns:
        The margins as two float64 vectors on the CPU; heads move them where they are needed.

    Raises:
        ArgumentError: a value is negative or infinite, or an option is out of its range.

    >>> import torch
    >>> pairwise_guide(torch.tensor([1.0, 4.0, 2.0]), max_margin=0.3).matrix().round(decimals=2)
    tensor([[0.0000, 0.0000, 0.0000],
            [0.3000, 0.0000, 0.1500],
            [0.1500, 0.0000, 0.0000]], dtype=torch.float64)
    """
    require_number("clip", clip, above=0, most=math.pi)
    if max_margin is not None:
        require_number("max_margin", max_margin, least=0, most=math.pi)
        require(gain is None, "gain", f"{gain} beside max_margin={max_margin}", "one of the two, not both")
    gain = 1.0 if gain is None else require_number("gain", gain, least=0)
    values = check_class_values("values", values)
    return guide_of(values, gain=gain, max_margin=max_margin, direction=direction, clip=clip)


def guide_of(
    values: Tensor,  # (C,)
    *,
    gain: float,
    max_margin: float | None,
    direction: Direction,
    clip: float = math.pi / 2,
) -> PairwiseMargin:
    """Return what `pairwise_guide` does, without its checks: where the values are, and without waiting for them."""
    known = values > 0  # not so of NaN
    g = values.where(known, 1).log() * (gain / math.pi)
    g = g.where(known, g.sum() / known.sum().clamp_min(1))
    g = g - g.min()
    largest = g.max()
    g = g.clamp_max(clip) if max_margin is None else g * (max_margin / largest.where(largest > 0, 1))
    return PairwiseMargin(g, g, direction)
