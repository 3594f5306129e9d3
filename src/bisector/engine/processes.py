"""What processes that hold different classes tell each other, forth and back through autograd."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from bisector.engine.placement import Shard
from bisector.errors import ArgumentError, require


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
        if self.learning and not own.requires_grad:
            own = (
                own.detach().requires_grad_()
            )  # in the backward pass, this process must do its part all the same
        found: Tensor = _Gathered.apply(own, self)
        return found

    def own_rows(
        self,
        rows: Tensor,  # (B of all,), the same on all processes
    ) -> Tensor:
        """Return this process's own; back, each process learns what all wish of theirs."""
        found: Tensor = _OwnRows.apply(rows, self)
        return found

    def to_owners(
        self,
        scores: Tensor,  # (B of all, C')
        widths: tuple[int, ...],
    ) -> Tensor:
        """Return the (B, C) scores of this process's rows against the classes of all.

        Args:
            scores: of all rows against the classes held here.
            widths: how many classes each process holds.
        """
        found: Tensor = _ToOwners.apply(scores, self, widths)
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
    @staticmethod
    def forward(ctx: Any, rows: Tensor, batch: JointBatch) -> Tensor:
        ctx.batch = batch
        return rows[batch.own].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.batch.gather(gradient).div_(len(ctx.batch.sizes)), None


class _ToOwners(torch.autograd.Function):
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


class LocalPart(torch.autograd.Function):
    """This process's run of a vector that every process has whole; back, all get the gradient of the whole."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, shard: ProcessShard, length: int) -> Tensor:
        """Return a copy of the run."""
        ctx.shard, ctx.classes = shard, slice(shard.first, shard.first + length)
        return values[ctx.classes].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Put the runs of all together."""
        gathered = gradient.new_zeros(ctx.shard.classes)
        gathered[ctx.classes] = gradient
        return ctx.shard.sum(gathered), None, None


class SummedGradient(torch.autograd.Function):
    """A number as it is; back, the sum of the gradients that the processes have for it."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, shard: ProcessShard) -> Tensor:
        """Return the number."""
        ctx.shard = shard
        return number.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Sum."""
        return ctx.shard.sum(gradient), None
