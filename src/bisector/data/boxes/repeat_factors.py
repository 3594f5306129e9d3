"""Repeat Factor Sampling: pictures with rare classes are seen more often in an epoch (Gupta et al., CVPR 2019)."""

import torch
from torch import Tensor

from bisector.data.boxes.box_set import BoxSet
from bisector.data.keyed import keyed_permutation, keyed_seed
from bisector.errors import require, require_integer, require_number

_ONE = 2**32  # shares are counted in these: whole numbers add up without rounding


def repeat_factors(train: BoxSet, threshold: float) -> Tensor:  # (N,) float64
    """How often each picture is seen in an epoch, on average: `r(I) = max over c in I of max(1, sqrt(t / f(c)))`.

    f(c) is the share of the N pictures that have a box of class c to train on. A picture without any has 1.

    Args:
        train: the training part, N pictures.
        threshold: t, a share of the pictures: classes in fewer are repeated; 0.001 for LVIS. 0: none is.

    Raises:
        ArgumentError: if the threshold is not between 0 and 1.

    >>> from bisector.data.boxes import Picture
    >>> box = torch.tensor([[0.0, 0, 4, 4]])
    >>> labels = [1] * 15 + [2]
    >>> pictures = [Picture.of(i, f"{i}.jpg", 8, 8, box, torch.tensor([c])) for i, c in enumerate(labels)]
    >>> repeat_factors(BoxSet(pictures, ["common", "rare"], name="x"), threshold=0.25)[-2:]
    tensor([1., 2.], dtype=torch.float64)
    """
    require_number("threshold", threshold, least=0, most=1)
    share = train.image_counts.double() / max(len(train), 1)
    of_class = (threshold / share).sqrt().clamp(min=1)  # a class of no picture: infinite, and in none
    own = [picture.labels[~picture.crowd] - 1 for picture in train]
    return torch.tensor([float(of_class[c].max()) if len(c) else 1.0 for c in own], dtype=torch.float64)


def epoch_order(factors: Tensor, seed: int, epoch: int) -> Tensor:  # (round(sum of factors),) int64
    """The pictures of one epoch in a random order, each floor(r) or ceil(r) times and r times on average.

    The whole part of a factor is certain, the rest is drawn by systematic sampling over an order of its own. Every
    epoch has the same length: the sum of the factors, rounded. (The shares are scaled to that sum, so the averages
    are off by at most 1/2 in all pictures together.) Factors of 1 give `keyed_permutation(seed, epoch, N)`.

    Args:
        factors: (N,) at least 0, finite.
        seed: of the training.
        epoch: from 0.

    Raises:
        ArgumentError: if a factor is negative or not finite, or the seed or the epoch is below 0.

    >>> epoch_order(torch.tensor([1.0, 2.5, 1.5]), seed=0, epoch=0).bincount()
    tensor([1, 2, 2])
    >>> epoch_order(torch.tensor([1.0, 2.5, 1.5]), seed=0, epoch=4).bincount()
    tensor([1, 3, 1])
    """
    require_integer("seed", seed, least=0)
    require_integer("epoch", epoch, least=0)
    factors = factors.double()
    fine = bool(factors.isfinite().all() and (factors >= 0).all())
    require(fine, "factors", "one that is negative or not finite", "finite numbers of at least 0")
    times = factors.floor()
    share = factors - times
    times = times.long()
    total = round(float(factors.sum()))

    open_ = (share > 0).nonzero()[:, 0]  # those that may come once more
    generator = torch.Generator().manual_seed(keyed_seed(seed, epoch, 1))
    open_ = open_[torch.randperm(len(open_), generator=generator)]
    more = total - int(times.sum())
    parts = _parts(share[open_], more)
    start = torch.randint(_ONE, (), generator=generator)
    ends = -(
        (start - parts.cumsum(0)) // _ONE
    )  # how many of the marks start, start + 1, ... lie before each end
    times[open_] += ends.diff(prepend=torch.zeros(1, dtype=torch.long))
    return torch.arange(len(factors)).repeat_interleave(times)[keyed_permutation(seed, epoch, total)]


def _parts(share: Tensor, count: int) -> Tensor:  # (M,) int64
    """Shares scaled to the sum `count`, none above 1, in units of `_ONE`."""
    whole = float(share.sum())
    if count <= whole:
        scaled = share * (count / whole) if whole else share
    else:  # what is missing to 1 is scaled instead
        scaled = 1 - (1 - share) * ((len(share) - count) / (len(share) - whole))
    parts = (scaled * _ONE).long()
    rest = count * _ONE - int(parts.sum())  # of the rounding
    if len(parts):
        parts += rest // len(parts)
        parts[: rest % len(parts)] += 1
    return parts
