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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from bisector.checks import require_embeddings
from bisector.engine.budget import MemoryBudget
from bisector.engine.chunked import chunked_loss
from bisector.engine.competitors import Competitors
from bisector.engine.targets import Shard
from bisector.errors import ArgumentError, require
from bisector.functional.reference import LossSpec
from bisector.functional.scores import Score, class_scores

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

# Scores that `sharded_predict` has at a time.
PREDICTED_AT_A_TIME = 1 << 24


def is_sharded(tensor: Tensor | None) -> "TypeGuard[DTensor]":
    """Return whether a tensor is a `torch.distributed.tensor.DTensor`, without importing that module.

    >>> import torch
    >>> is_sharded(torch.zeros(3))
    False
    """
    return hasattr(tensor, "device_mesh")


def whole(
    tensor: Tensor,  # (C, ...)
) -> Tensor:
    """Return all classes of a tensor that may be sharded; then every process must call this."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def whole_on_first(
    tensor: "DTensor",  # (C, ...)
    at_a_time: int = 64 << 20,
) -> Tensor | None:
    """Return all classes on the CPU of the first process, and None on the others; every process must call this.

    Beside its own part, no device holds more than the bytes that are sent at once.

    Args:
        tensor: sharded over its first dimension.
        at_a_time: the bytes that all processes together send at once; a row of each at least.
    """
    classes_here(tensor)  # says so if it is cut in another way
    local, world = tensor.to_local().detach(), tensor.device_mesh.size()
    group, first = tensor.device_mesh.get_group(), tensor.device_mesh.get_local_rank() == 0
    found = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu") if first else None
    widest = -(-len(tensor) // world)
    rows = max(1, at_a_time // (world * max(1, local.shape[1:].numel() * local.itemsize)))
    for start in range(0, widest, rows):
        sent = local.new_zeros(min(rows, widest - start), *local.shape[1:])
        part = local[start : start + len(sent)]
        sent[: len(part)] = part
        parts = [torch.empty_like(sent) for _ in range(world)] if first else None
        distributed.gather(sent, parts, group=group, group_dst=0)
        for rank, received in enumerate(parts or ()):
            assert found is not None
            place = found[rank * widest : (rank + 1) * widest][start : start + len(sent)]
            place.copy_(received[: len(place)])
    return found


def classes_here(tensor: "DTensor") -> slice:
    """Return which of all classes, the rows of a sharded tensor, this process holds.

    torch cuts C rows into runs of ceil(C / world); the last processes may hold fewer, or none.

    Raises:
        ArgumentError: the tensor is cut in another way.
    """
    mesh, placements = tensor.device_mesh, tensor.placements
    fits = mesh.ndim == 1 and placements[0].is_shard(0)
    require(fits, "weight", f"placements {placements}", "(Shard(dim=0),) on a mesh of one dimension")
    widest = -(-len(tensor) // mesh.size())
    first = min(mesh.get_local_rank() * widest, len(tensor))
    return slice(first, min(first + widest, len(tensor)))


def alongside(
    values: Tensor,  # (C, ...)
    sharded: Tensor | None,  # (C, ...)
) -> Tensor:
    """Return whole values cut as another tensor is, where its mesh is; as they are where that is not sharded."""
    if not is_sharded(sharded) or is_sharded(values):
        return values
    from torch.distributed.tensor import DTensor

    part = values[classes_here(sharded)].to(sharded.to_local().device)
    return DTensor.from_local(
        part, sharded.device_mesh, sharded.placements, shape=values.shape, stride=values.stride()
    )


@dataclass(frozen=True)
class ProcessShard(Shard):
    """A run of the classes, beside the runs that the other processes of a group hold."""

    group: distributed.ProcessGroup

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, the same on all."""
        return self._reduced(values, distributed.ReduceOp.SUM)

    def max(self, values: Tensor) -> Tensor:
        """Return the maximum over the processes, the same on all."""
        return self._reduced(values, distributed.ReduceOp.MAX)

    def _reduced(self, values: Tensor, operation: Any) -> Tensor:
        result = values.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(result, operation, group=self.group)
        return result


@dataclass(frozen=True)
class JointBatch:
    """The batches of all processes as one, in the order of their ranks; each may have another number of rows.

    Attributes:
        sizes: the rows of each process.
        rank: of this process.
        group: the processes.
        learning: whether any process wants the gradient of its rows; then all must help to make it.
    """

    sizes: tuple[int, ...]
    rank: int
    group: distributed.ProcessGroup
    learning: bool

    @classmethod
    def meet(
        cls,
        rows: Tensor,  # (B, ...)
        group: distributed.ProcessGroup,
        device: torch.device,
        error: ArgumentError | None = None,
    ) -> "JointBatch":
        """Learn how many rows each process brings.

        Args:
            rows: those of this process; anything, where they are what is wrong.
            group: the processes.
            device: where they talk to each other.
            error: what is wrong with this process's arguments; it is raised here, and on the others too, which
                would else wait for this one until they time out.
        """
        count = -1 if error is not None else len(rows)
        learning = error is None and torch.is_grad_enabled() and rows.requires_grad
        mine = torch.tensor([[count, int(learning)]], device=device)
        told = mine.new_empty(group.size(), 2)
        distributed.all_gather_into_tensor(told, mine, group=group)
        sizes, wishes = told.t().tolist()
        if error is not None:
            raise error
        require(min(sizes) >= 0, "arguments", f"illegal ones on rank {sizes.index(min(sizes))}", "see there")
        require(sum(sizes) > 0, "embeddings", "no row on any process", "at least one row")
        return cls(tuple(sizes), group.rank(), group, any(wishes))

    @property
    def own(self) -> slice:
        """Which rows of the joint batch are this process's."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])

    def gather(
        self,
        rows: Tensor,  # (B, ...)
    ) -> Tensor:
        """Return the rows of all processes; passes no gradient."""
        most = max(self.sizes)
        mine = rows.detach().contiguous()
        if len(mine) < most:
            mine = torch.cat([mine, mine.new_zeros(most - len(mine), *mine.shape[1:])])
        found = mine.new_empty(most * len(self.sizes), *mine.shape[1:])
        distributed.all_gather_into_tensor(found, mine, group=self.group)
        if min(self.sizes) == most:
            return found
        return torch.cat(
            [part[:size] for part, size in zip(torch.split(found, most), self.sizes, strict=True)]
        )

    def sum_of_own(
        self,
        parts: Tensor,  # (B of all, ...)
    ) -> Tensor:
        """Return, of the sum over the processes of what each has for all rows, this process's own rows."""
        most = max(self.sizes)
        padded = parts.contiguous()
        if min(self.sizes) < most:
            padded = parts.new_zeros(len(self.sizes), most, *parts.shape[1:])
            for place, part in zip(padded, torch.split(parts, list(self.sizes)), strict=True):
                place[: len(part)] = part
            padded = padded.flatten(0, 1)
        total = padded.new_empty(most, *parts.shape[1:])
        distributed.reduce_scatter_tensor(total, padded, group=self.group)
        return total[: self.sizes[self.rank]]

    def embeddings(
        self,
        own: Tensor,  # (B, D)
    ) -> Tensor:
        """Return the embeddings of all, in float32 or better; see `sharded` for the gradient that comes back."""
        if self.learning and not own.requires_grad:  # in the backward pass it must do its part all the same
            own = own.detach().requires_grad_()
        found: Tensor = _Gathered.apply(own, self)
        return found


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, batch: JointBatch) -> Tensor:
        ctx.batch, ctx.dtype = batch, own.dtype
        return batch.gather(own).to(torch.promote_types(own.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # The sum is in the precision of what is summed; then times world, against the averaging of DDP.
        total = ctx.batch.sum_of_own(gradient).mul_(len(ctx.batch.sizes))
        return total.to(ctx.dtype), None


class _OwnRows(torch.autograd.Function):
    """This process's rows of what is the same on all; back, each process learns what all wish of theirs."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, batch: JointBatch) -> Tensor:
        ctx.batch = batch
        return rows[batch.own].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.batch.gather(gradient).div_(len(ctx.batch.sizes)), None


class _ToOwners(torch.autograd.Function):
    """The (B, C) scores of this process's rows, given the (B of all, C') scores against the classes held here."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, batch: JointBatch, widths: tuple[int, ...]) -> Tensor:
        ctx.batch, ctx.widths = batch, widths
        rows, here = batch.sizes[batch.rank], widths[batch.rank]
        found = scores.new_empty(rows * sum(widths))
        distributed.all_to_all_single(
            found,
            scores.detach().flatten().contiguous(),
            [rows * width for width in widths],
            [size * here for size in batch.sizes],
            group=batch.group,
        )
        parts = torch.split(found, [rows * width for width in widths])
        return torch.cat([part.view(rows, width) for part, width in zip(parts, widths, strict=True)], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        batch, widths = ctx.batch, ctx.widths
        rows, here = batch.sizes[batch.rank], widths[batch.rank]
        found = gradient.new_empty(sum(batch.sizes) * here)
        distributed.all_to_all_single(
            found,
            torch.cat([part.flatten() for part in torch.split(gradient, list(widths), dim=1)]),
            [size * here for size in batch.sizes],
            [rows * width for width in widths],
            group=batch.group,
        )
        return found.view(sum(batch.sizes), here).div_(len(batch.sizes)), None, None


class _LocalPart(torch.autograd.Function):
    """This process's run of a vector that every process has whole; back, all get the gradient of the whole."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, shard: ProcessShard, length: int) -> Tensor:
        ctx.shard, ctx.classes = shard, slice(shard.first, shard.first + length)
        return values[ctx.classes].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gathered = gradient.new_zeros(ctx.shard.classes)
        gathered[ctx.classes] = gradient
        return ctx.shard.sum(gathered), None, None


class _SummedGradient(torch.autograd.Function):
    """A number as it is; back, the sum of the gradients that the processes have for it."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, shard: ProcessShard) -> Tensor:
        ctx.shard = shard
        return number.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.shard.sum(gradient), None


Draw: TypeAlias = Callable[
    [Tensor, "ProcessShard", LossSpec], tuple["ProcessShard", Tensor, Tensor, LossSpec]
]
"""Draws classes for all processes: (labels of all, classes held here, loss) -> the same of the draw.

It returns the classes of the draw held here, which rows of this process's weights they are, labels and loss.
"""


def sharded_loss(
    embeddings: Tensor,  # (B, D), this process's rows
    weight: "DTensor",  # (C, D) or (C, K, D)
    labels: Tensor,  # (B,)
    spec: LossSpec,  # with the offset whole or sharded
    budget: MemoryBudget,
    choose: Callable[[], type[Competitors] | None],
    draw: Draw | None = None,
) -> Tensor:
    """Return the loss that `bisector.margin_cross_entropy` documents, of the joint batch of all processes.

    Every process must call it, with embeddings of one dtype; it may have no rows of its own.

    Args:
        embeddings: this process's rows.
        weight: sharded over its first dimension.
        labels: of this process's rows.
        spec: of the loss.
        budget: of each process.
        choose: checks the arguments and returns who does the elementwise part; what it raises makes all raise.
        draw: takes a few of the classes, the same on all processes; None takes all.
    """
    error, chosen = None, None
    try:
        chosen = choose()
    except ArgumentError as raised:
        error = raised
    shard, local = _shard(weight)
    batch = JointBatch.meet(embeddings, shard.group, local.device, error)
    offset = spec.offset
    if is_sharded(offset):
        offset = offset.to_local()
    elif offset is not None:
        offset = _LocalPart.apply(offset, shard, len(local))
    everyone = batch.gather(labels.long())
    if draw is not None:
        shard, here, everyone, spec = draw(everyone, shard, spec)
        local = local.index_select(0, here)
        offset = None if offset is None else offset.index_select(0, here)
    spec, x = replace(spec, offset=offset), batch.embeddings(embeddings)
    rows = chunked_loss(x, local, everyone, spec, budget, chosen or Competitors, shard)
    own: Tensor = _OwnRows.apply(rows, batch) if spec.reduction == "none" else rows
    return own


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
        scale = _SummedGradient.apply(scale, shard)
    logits = _logits(batch.embeddings(embeddings), local, here, score, scale)
    widths = (min(shard.widest, max(0, shard.classes - shard.widest * r)) for r in range(shard.group.size()))
    own: Tensor = _ToOwners.apply(logits, batch, tuple(widths))
    return own


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
