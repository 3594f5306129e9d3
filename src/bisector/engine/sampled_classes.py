"""Sampled classes: how those of a step are drawn, by one process or for several, and their margins and labels."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, distributed

from bisector.checks import require_classes
from bisector.engine.processes import ProcessShard
from bisector.errors import require, require_number
from bisector.functional.margins import CustomMargin, Margin, PairwiseMargin, TargetRule

# What stands for an ignored row among labels that count the drawn classes: no position is negative.
IGNORED = -100


def sample_classes(
    labels: Tensor,  # (B,)
    num_classes: int,
    fraction: float,
    *,
    ignore_index: int = -100,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draw the classes of one step: all that the labels name, and others at random, each as likely as any other.

    There are :math:`\lceil \mathrm{fraction} \cdot C \rceil` in all, or as many as the labels name, if these are
    more. The cost is that of C random numbers.

    Args:
        labels: 0..C-1, or `ignore_index`.
        num_classes: C.
        fraction: in (0, 1].
        ignore_index: the label that names no class.
        generator: of random numbers, on the labels' device; PyTorch's own if None, so that a seed, or a
            checkpoint that restores the random state, draws the same classes again.

    Returns:
        (S,) the classes, ascending, each once.

    Raises:
        ArgumentError: a label or the fraction is out of its range.

    Source: An et al. 2021, *Partial FC*, arXiv 2010.05222; An et al., CVPR 2022.

    >>> classes = sample_classes(torch.tensor([7, 2, -100, 7]), 100, 0.05)
    >>> len(classes), bool((classes == 2).any() and (classes == 7).any())
    (5, True)
    """
    require_number("sample", fraction, above=0, most=1)
    require_classes("labels", labels, num_classes, ignore_index=ignore_index)
    named = torch.unique(labels[labels != ignore_index].long())
    count = max(math.ceil(fraction * num_classes), len(named))
    if count == num_classes:
        return torch.arange(num_classes, device=labels.device)
    keys = torch.rand(num_classes, device=labels.device, generator=generator)
    keys[named] = 2.0  # above all others
    return keys.topk(count, sorted=False).indices.sort().values


@dataclass(frozen=True, eq=False)
class SampledClasses:
    """The classes of one step, and what numbers labels, vectors and margins have where these are all there are.

    Attributes:
        classes: (S,) ascending, each once.
    """

    classes: Tensor

    @classmethod
    def of(cls, classes: Tensor, num_classes: int) -> "SampledClasses":
        """Check the classes.

        Raises:
            ArgumentError: one is not 0..C-1, or they are not ascending.
        """
        require_classes("classes", classes, num_classes)
        ascending = classes.dim() == 1 and len(classes) > 0 and bool((classes[1:] > classes[:-1]).all())
        legal = "at least one class, ascending, each once"
        require(ascending, "classes", f"{tuple(classes.shape)} of another order", legal)
        return cls(classes.long())

    def labels(
        self,
        labels: Tensor,  # (B,)
        ignore_index: int,
    ) -> Tensor:
        """Return the (B,) positions of the labels among the sampled classes, `IGNORED` for ignored rows."""
        labels = labels.long()
        kept = labels != ignore_index
        place = torch.searchsorted(self.classes, labels).clamp_max(len(self.classes) - 1)
        missing = kept & (self.classes[place] != labels)
        if bool(missing.any()):
            first = int(missing.nonzero()[0])
            got = f"{int(labels[first])} at position {first}"
            require(False, "labels", got, f"one of the {len(self.classes)} drawn classes")
        return place.where(kept, IGNORED)

    def vector(
        self,
        values: Tensor,  # (C,)
    ) -> Tensor:
        """Return the (S,) entries of the sampled classes."""
        return values[self.classes.to(values.device)]

    def margin(self, margin: Margin) -> Margin:
        """Return the margin for labels that are positions; its rules go on seeing the classes' own numbers."""
        pairwise = margin.pairwise
        return Margin(
            target=None if margin.target is None else self._target(margin.target),
            pairwise=pairwise
            and PairwiseMargin(self.vector(pairwise.r), self.vector(pairwise.c), pairwise.direction),
            competitor_shift=margin.competitor_shift,
            custom=None if margin.custom is None else self._custom(margin.custom),
        )

    def _target(self, rule: TargetRule) -> TargetRule:
        return lambda scores, places: rule(scores, self.classes[places])

    def _custom(self, custom: CustomMargin) -> CustomMargin:
        return lambda scores, y, j: custom(scores, self.classes[y], self.classes[j])


def draw_for_all(
    labels: Tensor,  # (B of all,) the same on all processes
    shard: ProcessShard,
    fraction: float,
    ignore_index: int,
) -> tuple[SampledClasses, Tensor, ProcessShard]:
    """Draw classes from all C on the first process, for all.

    The others are told which, and do not draw the same again: the devices may differ in their random numbers.

    Args:
        labels: of the joint batch.
        shard: the classes held here, of all C.
        fraction: in (0, 1].
        ignore_index: the label that names no class.

    Returns:
        The draw; which rows of this process's weights are in it; and the shard that these rows are of the draw.
    """
    seed = torch.randint(1 << 62, (1,), device=labels.device)  # by all, so that equal seeds stay in step
    rank = shard.group.rank()
    if rank == 0:
        generator = torch.Generator(labels.device).manual_seed(int(seed))
        classes = sample_classes(
            labels, shard.classes, fraction, ignore_index=ignore_index, generator=generator
        )
    count = seed.fill_(len(classes) if rank == 0 else 0)
    distributed.broadcast(count, group=shard.group, group_src=0)
    if rank > 0:
        classes = torch.empty(int(count), dtype=torch.long, device=labels.device)
    distributed.broadcast(classes, group=shard.group, group_src=0)
    edges = torch.arange(shard.group.size() + 1, device=labels.device) * shard.widest
    places = torch.searchsorted(classes, edges).tolist()
    first, last = places[rank], places[rank + 1]
    widest = max(stop - start for start, stop in pairwise(places))
    here = ProcessShard(first, len(classes), widest, shard.group)
    return SampledClasses(classes), classes[first:last] - shard.first, here
