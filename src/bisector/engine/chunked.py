"""The loss in chunks: the numbers of `bisector.functional.reference` without its B x C matrices."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from bisector.engine.budget import MemoryBudget
from bisector.engine.competitors import Competitors
from bisector.engine.eager import uncompiled
from bisector.engine.learned import learned_in
from bisector.engine.rows import RowTerms
from bisector.engine.shard import Shard
from bisector.engine.targets import Targets
from bisector.engine.walk import Walk
from bisector.errors import require
from bisector.functional.margins import Margin
from bisector.functional.row_losses import Reduction, RowLoss
from bisector.functional.scores import Score


@dataclass(frozen=True, eq=False)
class Call:
    """The arguments of one call that need no gradient."""

    labels: Tensor  # (B,) in 0..C-1
    terms: RowTerms
    score: Score
    margin: Margin
    scale: float
    reduction: Reduction
    budget: MemoryBudget
    shard: Shard
    products: torch.dtype  # in which the products are done
    competitors: type[Competitors]


@uncompiled
def chunked_margin_cross_entropy(
    embeddings: Tensor,  # (B, D)
    weight: Tensor,  # (C', D) or (C', K, D)
    labels: Tensor,  # (B,) classes, or (B, C) probabilities
    *,
    score: Score,
    margin: Margin,
    row_loss: RowLoss,
    scale: float | Tensor,
    offset: Tensor | None,  # (C',)
    class_weight: Tensor | None,  # (C,)
    ignore_index: int,
    reduction: Reduction,
    budget: MemoryBudget | None = None,
    shard: Shard | None = None,
    competitors: type[Competitors] = Competitors,
) -> Tensor:
    """Return the loss that `bisector.margin_cross_entropy` documents, within a memory budget.

    The rows are walked in chunks and the classes in blocks. For "mean" and "sum" the gradients are made along
    with the loss, in place, while the scores are at hand; for "none", and when a graph is used twice, the
    backward pass makes them from scores that it computes again.

    Args:
        embeddings: (B, D).
        weight: the classes that this process holds.
        labels: of all C classes.
        score: cosine or dot.
        margin: what is done to the scores.
        row_loss: cross-entropy or another.
        scale: s.
        offset: (C',) of the classes held here.
        class_weight: (C,).
        ignore_index: rows with this label count for nothing.
        reduction: "mean", "sum" or "none".
        budget: the scratch memory.
        shard: which classes these are, where other processes hold others.
        competitors: who does the elementwise part.
    """
    shard = shard or Shard(0, len(weight), len(weight))
    kept = labels != ignore_index if labels.dim() == 1 else None
    target = labels.argmax(1) if kept is None else labels.where(kept, 0)
    precise = torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float32)
    place = embeddings.device.type
    products = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else precise
    learned: list[Tensor] = []
    with torch.autocast(place, enabled=False):
        if torch.is_grad_enabled():
            tried = torch.zeros(len(target), dtype=precise, device=embeddings.device)
            few = target[:1]
            for found in (
                *learned_in(margin.target, tried, target),
                *learned_in(margin.custom, tried[:1, None], few[:, None], few),
            ):
                learned += [found] if all(found is not known for known in learned) else []
        terms = RowTerms.of(row_loss, labels, target, kept, class_weight, shard.classes, reduction, precise)
        call = Call(
            labels=target,
            terms=terms,
            score=score,
            margin=margin,
            scale=scale if isinstance(scale, float | int) else 1.0,
            reduction=reduction,
            budget=budget or MemoryBudget(),
            shard=shard,
            products=products,
            competitors=competitors,
        )
        learned_scale = scale if isinstance(scale, Tensor) else None
        loss: Tensor = _ChunkedLoss.apply(call, embeddings, weight, learned_scale, offset, *learned)
    return loss


class _ChunkedLoss(torch.autograd.Function):
    """The walk as one node of the graph, between the embeddings and weights and the loss."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor | None) -> Tensor:
        needed = ctx.needs_input_grad[1:]
        work = _Work(call, tensors, needed)
        now = call.reduction != "none" and any(needed)
        rows = work.losses(call.terms.share if now else None)
        ctx.call, ctx.needed = call, needed
        ctx.gradients = work.gradients() if now else None
        ctx.save_for_backward(work.gap, work.target_scores, *tensors)
        return rows if call.reduction == "none" else (rows * call.terms.share).sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # in place: who comes again gets them made again
        gap, target_scores, *tensors = ctx.saved_tensors
        with torch.no_grad(), torch.autocast(upstream.device.type, enabled=False):
            if gradients is None:
                work = _Work(ctx.call, tensors, ctx.needed)
                terms = ctx.call.terms
                work.again(gap, target_scores, upstream * (terms.kept if upstream.dim() else terms.share))
                gradients = work.gradients()
            else:
                for gradient in gradients:
                    if gradient is not None:
                        gradient.mul_(upstream)
        if torch.is_grad_enabled():  # a graph of the gradients is wanted, and there is none
            wanting = next(t for t, wants in zip(tensors, ctx.needed, strict=True) if wants)
            gradients = [None if g is None else _NotTwice.apply(g, wanting) for g in gradients]
        return None, *gradients


class _NotTwice(torch.autograd.Function):
    """A gradient that cannot be differentiated: says so when it is tried, instead of being a constant."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, _wanting: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        got = "a loss in chunks, whose gradient cannot be differentiated: it was asked for twice"
        require(False, "backend", got, "'dense'")


class _Work:
    """One pass over the batch: the targets, the walk over the competitors, and the gradients they add up to."""

    def __init__(self, call: Call, tensors: Any, needed: tuple[bool, ...]) -> None:
        x, weight, learned_scale, offset, *learned = tensors
        self.call, self.needed, self.x, self.weight = call, needed, x, weight
        self.scale = call.scale if learned_scale is None else learned_scale.detach()
        self.offset, self.learned = offset, learned
        precise = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
        scratch = call.budget.bytes_on(x.device)
        for_targets = min(scratch // 8, Targets.bytes_for_all(x, weight, precise))  # the walk takes the rest
        self.targets = Targets(
            x, weight, call.labels, call.shard, call.margin, call.score, precise, for_targets
        )
        self.walk = Walk(
            x,
            weight,
            call.labels,
            call.terms,
            score=call.score,
            margin=call.margin,
            scale=self.scale,
            offset=offset,
            learned=[leaf for leaf, wanted in zip(learned, needed[4:], strict=True) if wanted],
            scratch=scratch - for_targets,
            accumulation=call.budget.accumulation,
            shard=call.shard,
            products=call.products,
            competitors=call.competitors,
            wants=cast("tuple[bool, bool, bool, bool]", needed[:4]),
        )
        self.share: Tensor | None = None

    def losses(self, share: Tensor | None) -> Tensor:
        """Return the (B,) losses; with the rows' shares, make the gradients on the way."""
        self.target_scores = self.targets.scores()
        self.own_logits = self._own_logits(self.target_scores)
        self.share = share
        self.gap, asked = self.walk.forward(self.own_logits, share)
        return self.call.terms.losses(self.gap, self.own_logits, asked)

    def again(self, gap: Tensor, target_scores: Tensor, share: Tensor) -> None:
        """Make the gradients for known sums."""
        self.gap, self.target_scores, self.share = gap, target_scores, share
        self.own_logits = self._own_logits(target_scores)
        self.walk.backward(self.own_logits, gap, share)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients in the order of the tensors, after the targets have added theirs."""
        assert self.share is not None
        pull = self.share * self.call.terms.own_pull(self.gap)  # on the targets' logits
        wanted = [leaf for leaf, wants in zip(self.learned, self.needed[4:], strict=True) if wants]
        with torch.enable_grad():
            leaf = self.target_scores.detach().requires_grad_()
            moved = self.targets.moved(leaf)
            first, *parts = torch.autograd.grad(
                moved, [leaf, *wanted], pull * self.scale, retain_graph=True, allow_unused=True
            )
        walk = self.walk
        more = self.targets.add_gradient(
            torch.zeros_like(pull) if first is None else first, walk.grad_x, walk.grad_weight, wanted
        )
        rule = walk.competitors
        if rule.grad_offset is not None:
            self.targets.add_offset_gradient(pull, rule.grad_offset)
        grad_scale = None
        if rule.grad_scale is not None:
            grad_scale = self.call.shard.sum(rule.grad_scale) + (pull * moved.detach()).sum()
        learned = iter(
            _added(part, self._everywhere(_added(a, b), leaf))
            for part, a, b, leaf in zip(parts, more, rule.grad_learned, wanted, strict=True)
        )
        given = [walk.grad_x, walk.grad_weight, grad_scale, rule.grad_offset]
        given += [next(learned) if wants else None for wants in self.needed[4:]]
        likes = [self.x, self.weight, self.scale, self.offset, *self.learned]
        return [
            gradient.to(like.dtype) if gradient is not None and isinstance(like, Tensor) else None
            for gradient, like in zip(given, likes, strict=True)
        ]

    def _own_logits(self, scores: Tensor) -> Tensor:
        logits = self.targets.moved(scores) * self.scale
        return logits if self.offset is None else logits + self.targets.offsets(self.offset)

    def _everywhere(self, partial: Tensor | None, like: Tensor) -> Tensor | None:
        if len(self.weight) == self.call.shard.classes:
            return partial
        # A process without classes has met no margin, but must take part in the sum.
        return self.call.shard.sum(torch.zeros_like(like) if partial is None else partial)


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b
