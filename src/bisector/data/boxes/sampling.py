"""Long tails out of any detection set (COCO-LT), and Repeat Factor Sampling against them (LVIS)."""

from collections import Counter
from operator import gt, lt

import torch
from torch import Tensor

from bisector.data.boxes.box_set import BoxSet
from bisector.data.keyed import keyed_permutation, keyed_seed, keyed_uniform
from bisector.errors import require, require_integer, require_number

_ONE = 2**32  # shares are counted in these: whole numbers add up without rounding


def tail_targets(counts: Tensor, imbalance: float, seed: int) -> Tensor:  # (C,) int64
    """How many boxes of each class a long tail should keep.

    `min(n_c, round(n_max * imbalance^(-rank_c / (K - 1))))`: n_max is the count of the commonest class and K the
    number of classes with a box; rank 0 is the commonest class, and equal counts are ordered by the seed. (To draw
    all ranks, as for images of one thing each, would ask for what cannot be had: most classes have a person in
    their pictures.)

    >>> tail_targets(torch.tensor([100, 900, 0, 90]), imbalance=9, seed=0)
    tensor([100, 900,   0,  90])
    >>> tail_targets(torch.tensor([900, 900, 0, 90]), imbalance=100, seed=0).sort().values
    tensor([  0,   9,  90, 900])
    """
    require_number("imbalance", imbalance, least=1)
    present = counts.nonzero()[:, 0]
    ties = keyed_uniform(seed, 0, present, 1, "tail")[:, 0].argsort(stable=True)
    order = present[ties][counts[present[ties]].argsort(descending=True, stable=True)]
    rank = torch.arange(len(order), dtype=torch.float64)
    wanted = counts.max() * float(imbalance) ** (-rank / max(len(order) - 1, 1))
    targets = torch.zeros_like(counts)
    targets[order] = wanted.round().clamp(min=1).long().minimum(counts[order])
    return targets


def long_tailed(boxes: BoxSet, imbalance: float, seed: int = 0) -> BoxSet:
    """Keep pictures of a set such that the boxes per class fall off like those of LVIS.

    In the style of COCO-LT (Wang et al., "The Devil is in Classification", ECCV 2020), which was sampled from COCO;
    it is not its published list of images. The classes are served from the rarest target (`tail_targets`) to the
    commonest, each from its pictures in an order drawn from the seed: a picture is kept if no class then has more
    boxes than its target. A class that would have none keeps the one picture that exceeds targets by the fewest
    boxes. Pictures without a box to train on are left out. What was reached is `counts` of the result, and a
    line of its `left_out`.

    Args:
        boxes: the training part.
        imbalance: boxes of the commonest class over those of the rarest, at least 1.
        seed: the same seed keeps the same pictures.

    Raises:
        ArgumentError: if the imbalance is below 1, the seed below 0, or there is no box.
    """
    require_integer("seed", seed, least=0)
    require(int(boxes.counts.sum()) > 0, "data", f"no box in {boxes.name}", "boxes to make a long tail of")
    wanted: list[int] = tail_targets(boxes.counts, imbalance, seed).tolist()
    contents = [Counter((picture.labels[~picture.crowd] - 1).tolist()) for picture in boxes]
    of_class: dict[int, list[int]] = {}
    for index in keyed_permutation(seed, 0, len(boxes)).tolist():
        for category in contents[index]:
            of_class.setdefault(category, []).append(index)

    have = [0] * len(wanted)
    kept: set[int] = set()

    def excess(index: int) -> int:
        return sum(max(0, have[c] + n - wanted[c]) for c, n in contents[index].items())

    def keep(index: int) -> None:
        kept.add(index)
        for category, count in contents[index].items():
            have[category] += count

    for category in sorted(of_class, key=lambda c: (wanted[c], c)):
        for index in of_class[category]:
            if have[category] >= wanted[category]:
                break
            if index not in kept and excess(index) == 0:
                keep(index)
        if not have[category]:
            keep(min(of_class[category], key=excess))
    reached, asked = zip(
        *((n, target) for n, target in zip(have, wanted, strict=True) if target), strict=True
    )
    fewer, more = (sum(map(compare, reached, asked)) for compare in (lt, gt))
    line = (
        f"{boxes.name}: {len(kept):,} of {len(boxes):,} pictures kept for a long tail in the style of COCO-LT, "
        f"{max(reached):,} to {min(reached):,} boxes a class (wanted {max(asked):,} to {min(asked):,}; "
        f"{fewer} classes have fewer, {more} more)"
    )
    return boxes.subset(sorted(kept), left_out=[*boxes.left_out, line])


def repeat_factors(train: BoxSet, threshold: float) -> Tensor:  # (N,) float64
    """How often each picture is seen in an epoch, on average: `r(I) = max over c in I of max(1, sqrt(t / f(c)))`.

    f(c) is the share of the N pictures that have a box of class c to train on. A picture without any has 1.
    Source: Gupta et al., CVPR 2019.

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
    share = factors - factors.floor()
    times = factors.long()
    total = round(float(factors.sum()))

    open_ = (share > 0).nonzero()[:, 0]  # those that may come once more
    generator = torch.Generator().manual_seed(keyed_seed(seed, epoch, 1))
    open_ = open_[torch.randperm(len(open_), generator=generator)]
    parts = _parts(share[open_], total - int(times.sum()))
    start = torch.randint(_ONE, (), generator=generator)
    # How many of the marks start, start + 1, ... lie before each end.
    ends = -((start - parts.cumsum(0)) // _ONE)
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
