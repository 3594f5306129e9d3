r"""Classes over processes: each holds a run of the class weights and does its part for the rows of all.

**Which loss, which gradient.** With R processes, "mean" and "sum" return the loss of the joint batch, the same on
all; "none" returns each its own rows. Whatever is returned, training minimises, as
`torch.nn.parallel.DistributedDataParallel` has it, the mean over the processes of what each makes of it,
:math:`O = \frac1R \sum_r f_r`: for "mean" and "sum" just the loss that all return. Then

- the sharded weights and bias get :math:`\partial O / \partial W`: nothing is left to be averaged;
- numbers that every process has (a learned scale) get :math:`\partial O / \partial s` on every process;
  averaging leaves it as it is;
- embeddings get :math:`R\,\partial O / \partial x`, since what the backbones make of it is averaged afterwards:
  the backbone's parameters end up with :math:`\partial O / \partial \theta`.

What is upstream of "mean" and "sum" (a loss scale, a weight of the loss) must be the same on all processes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bisector.checks import require_embeddings
from bisector.engine.chunked import chunked_margin_cross_entropy
from bisector.engine.competitors import Competitors
from bisector.engine.dispatch import Backend, competitors_of, fastest, what_only_dense_does
from bisector.engine.eager import uncompiled
from bisector.engine.placement import classes_here, is_sharded
from bisector.engine.processes import JointBatch, LocalPart, ProcessShard, SummedGradient
from bisector.engine.sampled_classes import IGNORED, draw_for_all
from bisector.errors import ArgumentError, require
from bisector.functional.margins import Margin
from bisector.functional.row_losses import Reduction
from bisector.functional.scores import Score, class_scores

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

# Scores that `predict` has at a time.
PREDICTED_AT_A_TIME = 1 << 24


@uncompiled
def sharded_margin_cross_entropy(
    embeddings: Tensor,  # (B, D)
    weight: "DTensor",  # (C, D) or (C, K, D)
    labels: Tensor,  # (B,)
    *,
    margin: Margin,
    offset: Tensor | None,  # (C,), sharded or whole
    class_weight: Tensor | None,  # (C,)
    reduction: Reduction,
    backend: Backend,
    check: Callable[[], None],
    ignore_index: int,
    fraction: float | None = None,
    **options: Any,
) -> Tensor:
    """Return the loss that `bisector.margin_cross_entropy` documents, of the joint batch of all processes.

    Every process must call it, with embeddings of one dtype; it may have no rows of its own.

    Args:
        embeddings: this process's rows.
        weight: sharded over its first dimension.
        labels: of this process's rows.
        margin: what is done to the scores.
        offset: sharded as the weights are, or all of it on every process.
        class_weight: all of it on every process.
        reduction: "mean", "sum" or "none".
        backend: any but "dense".
        check: raises `ArgumentError` at illegal arguments; what one process raises makes all raise.
        ignore_index: rows with this label count for nothing.
        fraction: of the classes, if only a few are to be drawn, the same by all processes.
        options: those of `chunked_margin_cross_entropy`.
    """
    error, chosen = None, Competitors
    try:
        check()
        require(labels.dim() == 1, "labels", "probabilities", "classes (B,), where the classes are sharded")
        refused = "" if backend == "dense" else what_only_dense_does(labels, margin, class_weight)
        got = f"{backend!r} with sharded classes{refused and f' and {refused}'}"
        require(refused is None, "backend", got, "'auto', 'chunked' or 'triton', and no such gradient")
        chosen = competitors_of(fastest(embeddings) if backend == "auto" else backend, embeddings)
    except ArgumentError as raised:
        error = raised
    shard, local = _shard(weight)
    batch = JointBatch.meet(embeddings, shard.group, local.device, error)
    if is_sharded(offset):
        offset = offset.to_local()
    elif offset is not None:
        offset = LocalPart.apply(offset, shard, len(local))
    everyone = batch.gather(labels.long())
    if fraction is not None:
        drawn, here, shard = draw_for_all(everyone, shard, fraction, ignore_index)
        local = local.index_select(0, here)
        offset = None if offset is None else offset.index_select(0, here)
        class_weight = None if class_weight is None else drawn.vector(class_weight)
        everyone, margin, ignore_index = drawn.labels(everyone, ignore_index), drawn.margin(margin), IGNORED
    rows: Tensor = chunked_margin_cross_entropy(
        batch.embeddings(embeddings),
        local,
        everyone,
        margin=margin,
        offset=offset,
        class_weight=class_weight,
        reduction=reduction,
        ignore_index=ignore_index,
        shard=shard,
        competitors=chosen,
        **options,
    )
    return batch.own_rows(rows) if reduction == "none" else rows


def sharded_logits(
    embeddings: Tensor,  # (B, D)
    weight: "DTensor",  # (C, D) or (C, K, D)
    bias: Tensor | None,  # (C,)
    score: Score,
    scale: float | Tensor,
) -> Tensor:
    """Return the (B, C) logits of this process's rows; every process must call it."""
    shard, local = _shard(weight)
    batch = _joint(embeddings, shard, local)
    here = None if not is_sharded(bias) else bias.to_local()
    if isinstance(scale, Tensor):
        scale = SummedGradient.apply(scale, shard)
    logits = _logits(batch.embeddings(embeddings), local, here, score, scale)
    widths = (min(shard.widest, max(0, shard.classes - shard.widest * r)) for r in range(shard.group.size()))
    return batch.to_owners(logits, tuple(widths))


@torch.no_grad()
def sharded_predict(
    embeddings: Tensor,  # (B, D)
    weight: "DTensor",  # (C, D) or (C, K, D)
    bias: Tensor | None,  # (C,)
    score: Score,
    scale: float | Tensor,
) -> Tensor:
    """Return the (B,) most probable classes of this process's rows; every process must call it.

    Only a block of the scores exists at a time.
    """
    shard, local = _shard(weight)
    batch = _joint(embeddings, shard, local)
    here = None if not is_sharded(bias) else bias.to_local()
    x = batch.embeddings(embeddings)
    best = x.new_full((len(x),), -torch.inf)
    classes = torch.full_like(best, shard.first, dtype=torch.long)
    step = max(1, PREDICTED_AT_A_TIME // len(x))
    for start in range(0, len(local), step):
        block = slice(start, start + step)
        logits = _logits(x, local[block], None if here is None else here[block], score, scale)
        values, places = logits.max(dim=1)
        better = (values > best) | values.isnan()
        best = torch.where(better, values, best)
        classes = torch.where(better, places + (shard.first + start), classes)
    everywhere = JointBatch((len(x),) * shard.group.size(), shard.group.rank(), shard.group, learning=False)
    winners = everywhere.gather(best).view(-1, len(x)).argmax(dim=0, keepdim=True)
    return everywhere.gather(classes).view(-1, len(x)).gather(0, winners)[0, batch.own]


def _shard(weight: "DTensor") -> tuple[ProcessShard, Tensor]:
    """Return which classes are held here, and their weights."""
    here, local = classes_here(weight), weight.to_local()
    widest = -(-len(weight) // weight.device_mesh.size())
    return ProcessShard(here.start, len(weight), widest, weight.device_mesh.get_group()), local


def _joint(embeddings: Tensor, shard: ProcessShard, local: Tensor) -> JointBatch:
    """Return the batches of all as one, for scores; illegal embeddings of one process are told to all."""
    error = None
    try:
        require_embeddings("embeddings", embeddings, local.shape[-1])
    except ArgumentError as raised:
        error = raised
    return JointBatch.meet(embeddings, shard.group, local.device, error)


def _logits(x: Tensor, weight: Tensor, bias: Tensor | None, score: Score, scale: float | Tensor) -> Tensor:
    if len(weight):
        scores = scale * class_scores(x, weight, score)
    else:  # nothing that could be told into sub-centers; but all must take part in the backward pass
        scores = scale * (x.sum() + weight.sum()) * x.new_zeros(len(x), 0)
    return scores if bias is None else scores + bias
