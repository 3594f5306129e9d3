"""The loss over a few of the classes: those of the batch and a random share of the others."""

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from bisector.checks import require_classes
from bisector.engine.budget import MemoryBudget
from bisector.engine.competitors import Competitors
from bisector.engine.dispatch import (
    check_class_vectors,
    check_shapes,
    choose,
    compute,
    eager,
    only_plain_calls,
)
from bisector.engine.sharded import ProcessShard, is_sharded, sharded_loss
from bisector.errors import require, require_number
from bisector.functional.margins import CustomMargin, PairwiseMargin, TargetRule
from bisector.functional.reference import LossSpec

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
    """The classes of one step, and what labels and the loss are where these are all there are.

    Attributes:
        classes: (S,) ascending, each once.
    """

    classes: Tensor

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

    def loss(self, spec: LossSpec) -> LossSpec:
        """Return the loss for labels that are positions; a margin's rules go on seeing the classes' own numbers."""
        margin, weight = spec.margin, spec.class_weight
        return replace(
            spec,
            margin=replace(
                margin,
                target=None if margin.target is None else self._target(margin.target),
                pairwise=margin.pairwise and self._pairwise(margin.pairwise),
                custom=None if margin.custom is None else self._custom(margin.custom),
            ),
            class_weight=None if weight is None else self._taken(weight),
            ignore_index=IGNORED,
        )

    def _taken(self, values: Tensor) -> Tensor:
        return values[self.classes.to(values.device)]

    def _pairwise(self, margin: PairwiseMargin) -> PairwiseMargin:
        return PairwiseMargin(self._taken(margin.r), self._taken(margin.c), margin.direction)

    def _target(self, rule: TargetRule) -> TargetRule:
        return lambda scores, places, *lengths: rule(scores, self.classes[places], *lengths)

    def _custom(self, custom: CustomMargin) -> CustomMargin:
        return lambda scores, y, j: custom(scores, self.classes[y], self.classes[j])


@eager
def sampled_margin_cross_entropy(
    embeddings: Tensor,  # (B, D)
    weight: Tensor,  # (C, D), or (C, K, D)
    labels: Tensor,  # (B,)
    *,
    fraction: float | None = None,
    classes: Tensor | None = None,
    sparse: bool = True,
    **options: Any,
) -> Tensor:
    r"""Return `bisector.margin_cross_entropy` as if a few of the classes were the only ones.

    The softmax runs over them alone, and smoothing is spread over them. Rows of the weights (and of the offset)
    that are not among them are not read and get no gradient: with `sparse` it is a `torch.sparse_coo_tensor` of
    their rows, which `bisector.RowwiseAdamW`, `torch.optim.SparseAdam`, `torch.optim.Adagrad` and `torch.optim.SGD`
    (without weight decay) take.

    Args:
        embeddings: (B, D).
        weight: the weights of all C classes.
        labels: 0..C-1 or `ignore_index`. Probabilities are refused: they ask something of every class.
        fraction: draws the classes by `sample_classes`; given in place of `classes`. Where the classes are
            sharded, the first process draws for all, and the gradients are dense (a `DTensor` has no other).
        classes: (S,) ascending, each once, all labels among them.
        sparse: whether the gradients of weight and offset are sparse; else they have zeros in all other rows.
        options: the others of `bisector.margin_cross_entropy`. The rules of a margin see the classes' own numbers
            0..C-1, not their places among the drawn ones.

    Raises:
        ArgumentError: as `bisector.margin_cross_entropy` does; labels are probabilities; a label is not among the
            classes; the classes are not ascending; not just one of fraction and classes is given.

    Source: An et al. 2021, *Partial FC*, arXiv 2010.05222; An et al., CVPR 2022.

    >>> import torch
    >>> from torch.nn import functional as F
    >>> x, w, y = torch.eye(2, 3), torch.eye(4, 3), torch.tensor([0, 1])
    >>> loss = sampled_margin_cross_entropy(x, w, y, classes=torch.tensor([0, 1, 3]), scale=2.0)
    >>> float(loss) == float(F.cross_entropy(2.0 * x @ w[[0, 1, 3]].T, y))
    True
    """
    backend, budget = options.pop("backend", "auto"), options.pop("budget", None)
    given = {name: value for name, value in options.items() if value is not None}  # None means the default
    spec = LossSpec(**given)
    got = f"{fraction} with classes={classes}"
    if is_sharded(weight):

        def chosen() -> type[Competitors] | None:
            one = fraction is not None and classes is None
            require(one, "fraction", got, "a fraction, where classes are sharded")
            require_number("sample", fraction, above=0, most=1)
            return choose(embeddings, weight, labels, spec, backend, budget)

        draw = partial(_draw_for_all, fraction=cast("float", fraction))
        return sharded_loss(embeddings, weight, labels, spec, budget or MemoryBudget(), chosen, draw)
    check_shapes(embeddings, weight, labels)
    plain = only_plain_calls(labels)
    require(plain is None, "sample", f"{fraction} with {plain}", "1: there no classes can be drawn")
    hard, shape = labels.dim() == 1, tuple(labels.shape)
    require(hard, "labels", f"probabilities, shape {shape}", "classes (B,) where classes are sampled")
    one = (fraction is None) != (classes is None)
    require(one, "fraction", got, "just one of fraction and classes")
    check_class_vectors(spec, len(weight))
    if classes is None:
        classes = sample_classes(labels, len(weight), cast("float", fraction), ignore_index=spec.ignore_index)
    require_classes("classes", classes, len(weight))
    ascending = classes.dim() == 1 and len(classes) > 0 and bool((classes[1:] > classes[:-1]).all())
    legal = "at least one class, ascending, each once"
    require(ascending, "classes", f"{tuple(classes.shape)} of another order", legal)
    drawn = SampledClasses(classes.long())
    offset = None if spec.offset is None else take_rows(spec.offset, drawn.classes, sparse=sparse)
    return compute(
        embeddings,
        take_rows(weight, drawn.classes, sparse=sparse),
        drawn.labels(labels, spec.ignore_index),
        replace(drawn.loss(spec), offset=offset),
        backend,
        budget,
    )


def _draw_for_all(
    labels: Tensor,  # (B of all,) the same on all processes
    shard: ProcessShard,
    spec: LossSpec,
    fraction: float,
) -> tuple[ProcessShard, Tensor, Tensor, LossSpec]:
    """Draw classes on the first process, for all; see `bisector.engine.sharded.Draw`.

    The others are told which, and do not draw the same again: the devices may differ in their random numbers.
    """
    seed = torch.randint(1 << 62, (1,), device=labels.device)  # by all, so that equal seeds stay in step
    rank = shard.group.rank()
    if rank == 0:
        generator = torch.Generator(labels.device).manual_seed(int(seed))
        classes = sample_classes(
            labels, shard.classes, fraction, ignore_index=spec.ignore_index, generator=generator
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
    drawn = SampledClasses(classes)
    rows = classes[first:last] - shard.first
    return here, rows, drawn.labels(labels, spec.ignore_index), drawn.loss(spec)


def take_rows(
    values: Tensor,  # (C, ...)
    rows: Tensor,  # (S,) ascending, each once
    *,
    sparse: bool,
) -> Tensor:
    """Return the (S, ...) rows; with `sparse`, the gradient of `values` is a sparse tensor of S rows.

    `torch.nn.functional.embedding` does this for matrices; here any number of dimensions will do, vectors and
    sub-centers too, and the gradient takes the memory that the loss's backward pass has filled, without a copy.

    >>> bias = torch.zeros(1000, requires_grad=True)
    >>> take_rows(bias, torch.tensor([3, 14]), sparse=True).sum().backward()
    >>> bias.grad.coalesce().indices(), bias.grad.coalesce().values()
    (tensor([[ 3, 14]]), tensor([1., 1.]))
    """
    if not sparse:
        return values.index_select(0, rows)
    return cast("Tensor", _TakenRows.apply(values, rows))


class _TakenRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor) -> Tensor:
        ctx.shape = values.shape
        ctx.save_for_backward(rows)
        return values.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        taken = torch.sparse_coo_tensor(
            rows[None], gradient, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return taken, None
