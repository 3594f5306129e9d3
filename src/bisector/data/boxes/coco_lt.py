"""Makes a long-tailed detection set out of any, in the style of COCO-LT."""

import torch
from torch import Tensor

from bisector.data.boxes.box_set import BoxSet
from bisector.data.keyed import keyed_permutation, keyed_uniform
from bisector.errors import require, require_integer, require_number


def tail_targets(counts: Tensor, imbalance: float, seed: int) -> Tensor:  # (C,) int64
    """How many boxes of each class a long tail should keep.

    `min(n_c, round(n_max * imbalance^(-rank_c / (K - 1))))`: n_max is the count of the commonest class and K the
    number of classes with a box; rank 0 is the commonest class, and equal counts are ordered by the seed. (To draw
    all ranks, as for images of one thing each, would ask for what cannot be had: most classes have a person in
    their pictures.)

    Args:
        counts: (C,) boxes of each class; one without a box keeps none.
        imbalance: of the commonest class over the rarest, at least 1.
        seed: orders equal counts.

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
    boxes. Pictures without a box to train on are left out. What was reached is `counts` of the result, and told
    in its `left_out`.

    Args:
        boxes: the training part.
        imbalance: boxes of the commonest class over those of the rarest, at least 1.
        seed: the same seed keeps the same pictures.

    Raises:
        ArgumentError: if the imbalance is below 1, the seed below 0, or there is no box.
    """
    require_integer("seed", seed, least=0)
    require(int(boxes.counts.sum()) > 0, "data", f"no box in {boxes.name}", "boxes to make a long tail of")
    targets = tail_targets(boxes.counts, imbalance, seed)
    contents = [_contents(picture.labels[~picture.crowd] - 1) for picture in boxes]
    of_class: dict[int, list[int]] = {}
    for index in keyed_permutation(seed, 0, len(boxes)).tolist():
        for category in contents[index]:
            of_class.setdefault(category, []).append(index)

    wanted = targets.tolist()
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
    return boxes.subset(sorted(kept), left_out=[*boxes.left_out, _told(boxes, len(kept), targets, have)])


def _contents(classes: Tensor) -> dict[int, int]:
    found, counts = torch.unique(classes, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _told(boxes: BoxSet, kept: int, targets: Tensor, have: list[int]) -> str:
    reached = torch.tensor(have)
    present = reached[targets > 0]
    below, above = int((reached < targets).sum()), int((reached > targets).sum())
    return (
        f"{boxes.name}: {kept:,} of {len(boxes):,} pictures kept for a long tail in the style of COCO-LT, "
        f"{int(present.max()):,} to {int(present.min()):,} boxes a class (wanted {int(targets.max()):,} to "
        f"{int(targets[targets > 0].min()):,}; {below} classes have fewer, {above} more)"
    )
