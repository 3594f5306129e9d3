"""One draw of classes that all processes share, of which each holds some."""

from itertools import pairwise

import torch
from torch import Tensor, distributed

from bisector.engine.drawn import DrawnClasses, sample_classes
from bisector.engine.processes import ProcessShard


def draw_together(
    labels: Tensor,  # (B of all,) the same on all processes
    shard: ProcessShard,
    fraction: float,
    ignore_index: int,
) -> tuple[DrawnClasses, Tensor, ProcessShard]:
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
    return DrawnClasses(classes), classes[first:last] - shard.first, here
