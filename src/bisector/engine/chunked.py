"""The loss in chunks: the numbers of `bisector.functional.reference` without its B x C matrices."""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from bisector.engine.budget import MemoryBudget
from bisector.engine.competitors import Competitors
from bisector.engine.eager import uncompiled
from bisector.engine.placement import Shard
from bisector.engine.rows import RowTerms
from bisector.engine.targets import Targets
from bisector.engine.walk import Walk
from bisector.errors import require
from bisector.functional.margins import Margin
from bisector.functional.row_losses import Reduction, RowLoss
from bisector.functional.scores import Score, working_dtype


@dataclass(eq=False)
class Call:
    """The arguments of one call that need no gradient, and what the target's rule made of them."""

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
    learning: bool  # whether gradients are wanted at all
    leaf: Tensor = field(init=False)  # (B,) scores of the rows' own classes
    moved: Tensor = field(init=False)  # (B,) the same after the target's rule, which is called once

    def targets(self, x: Tensor, weight: Tensor) -> Targets:
        """Return the B pairs of a row and its own class."""
        dtype, scratch = self.terms.row_weight.dtype, self.target_bytes(x, weight)
        return Targets(x, weight, self.labels, self.shard, self.margin, self.score, dtype, scratch)

    def target_bytes(self, x: Tensor, weight: Tensor) -> int:
        """Return the part of the budget that the targets take; the walk over the competitors has the rest."""
        whole = Targets.bytes_for_all(x, weight, self.terms.row_weight.dtype)
        return min(self.budget.bytes_on(x.device) // 8, whole)


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
    precise = working_dtype(embeddings, weight)
    learning = torch.is_grad_enabled()  # inside an autograd function it never is
    call = Call(
        labels=target,
        terms=RowTerms.of(row_loss, labels, target, kept, class_weight, shard.classes, reduction, precise),
        score=score,
        margin=margin,
        scale=1.0 if isinstance(scale, Tensor) else float(scale),
        reduction=reduction,
        budget=budget or MemoryBudget(),
        shard=shard,
        products=_dtype_of_products(precise, embeddings.device),
        competitors=competitors,
        learning=learning,
    )
    with torch.autocast(embeddings.device.type, enabled=False):
        targets = call.targets(embeddings, weight)
        with torch.no_grad():
            scores = targets.scores()
        leaf = scores.detach().requires_grad_(learning)
        call.leaf, call.moved = leaf, targets.moved(leaf.clone())
        learned = leaves_behind(call.moved, leaf) if learning else []
        if learning and margin.custom is not None:
            learned += [found for found in _learned_in_custom(call) if all(found is not f for f in learned)]
        learned_scale = scale if isinstance(scale, Tensor) else None
        loss: Tensor = _ChunkedLoss.apply(call, embeddings, weight, learned_scale, offset, *learned)
    return loss


def _dtype_of_products(precise: torch.dtype, device: torch.device) -> torch.dtype:
    """Return in what the products are done: in autocast's dtype, where it is on and means float32."""
    if precise != torch.float32 or not torch.is_autocast_enabled(device.type):
        return precise
    dtype = torch.get_autocast_dtype(device.type)
    # A CPU's float16 products are many times slower than float32, and overflow, since they come back in float16.
    return precise if device.type == "cpu" and dtype == torch.float16 else dtype


def _learned_in_custom(call: Call) -> list[Tensor]:
    """Return what is learned inside a user's margin, found by a call on one score."""
    assert call.margin.custom is not None
    label = call.labels[:1]
    leaf = call.terms.row_weight.new_zeros(1, 1).requires_grad_()
    return leaves_behind(call.margin.custom(leaf.clone(), label[:, None], label), leaf)


class Work:
    """The numbers of one call: losses, or gradients, or both in one go."""

    def __init__(self, call: Call, tensors: Any, needed: tuple[bool, ...]) -> None:
        x, weight, learned_scale, offset, *learned = tensors
        self.call, self.needed, self.x, self.weight = call, needed, x, weight
        self.scale = call.scale if learned_scale is None else learned_scale.detach()
        self.offset, self.learned = offset, learned
        self.targets = call.targets(x, weight)
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
            scratch=call.budget.bytes_on(x.device) - call.target_bytes(x, weight),
            accumulation=call.budget.accumulation,
            shard=call.shard,
            products=call.products,
            competitors=call.competitors,
            wants=cast("tuple[bool, bool, bool, bool]", needed[:4]),
        )
        self.row_weight: Tensor | None = None
        self.own_logits = call.moved.detach() * self.scale
        if offset is not None:
            self.own_logits = self.own_logits + self.targets.offsets(offset.detach())

    def losses(self, row_weight: Tensor | None) -> Tensor:
        """Return the (B,) losses; with the rows' weights, make the gradients on the way."""
        self.row_weight = row_weight
        self.nll, target_dot = self.walk.forward(self.own_logits, row_weight)
        return self.call.terms.losses(self.nll, self.own_logits, target_dot)

    def again(self, nll: Tensor, row_weight: Tensor) -> None:
        """Make the gradients for known (B,) sums."""
        self.nll, self.row_weight = nll, row_weight
        self.walk.backward(self.own_logits, nll, row_weight)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients in the order of the tensors, after the targets have added theirs."""
        assert self.row_weight is not None
        pull = self.row_weight * self.call.terms.own_pull(self.nll)  # on the targets' logits
        wanted = [leaf for leaf, wants in zip(self.learned, self.needed[4:], strict=True) if wants]
        moved, first = self.call.moved, None
        parts: list[Tensor | None] = [None] * len(wanted)
        if moved.requires_grad:
            first, *parts = torch.autograd.grad(  # type: ignore[assignment]
                moved, [self.call.leaf, *wanted], pull * self.scale, retain_graph=True, allow_unused=True
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
        return given

    def _everywhere(self, partial: Tensor | None, like: Tensor) -> Tensor | None:
        # All processes must take part in the sum, also one that holds no classes (and has met no margin), and one
        # that holds all that were drawn: it cannot know this of the others.
        return self.call.shard.sum(torch.zeros_like(like) if partial is None else partial)


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


class _ChunkedLoss(torch.autograd.Function):
    """The walk as one node of the graph, between the embeddings and weights and the loss."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor | None) -> Tensor:
        needed = tuple(wants and call.learning for wants in ctx.needs_input_grad[1:])
        work = Work(call, tensors, needed)
        now = call.reduction != "none" and any(needed)
        rows = work.losses(call.terms.row_weight if now else None)
        ctx.call, ctx.needed = call, needed
        ctx.gradients = work.gradients() if now else None
        ctx.save_for_backward(work.nll, *tensors)
        return rows if call.reduction == "none" else (rows * call.terms.row_weight).sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # in place: who comes again gets them made again
        nll, *tensors = ctx.saved_tensors
        with torch.no_grad(), torch.autocast(upstream.device.type, enabled=False):
            if gradients is None:
                work, terms = Work(ctx.call, tensors, ctx.needed), ctx.call.terms
                work.again(nll, upstream * (terms.kept if upstream.dim() else terms.row_weight))
                gradients = work.gradients()
            else:
                for gradient in gradients:
                    if gradient is not None:
                        gradient.mul_(upstream)
            # Not before: what a loss scaler multiplies by would come too late for half precision.
            gradients = [g if g is None else g.to(t.dtype) for g, t in zip(gradients, tensors, strict=True)]
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
        got = "a loss in chunks, whose gradient cannot be differentiated: it was wanted twice"
        require(False, "backend", got, "'dense'")


def leaves_behind(
    result: Tensor,
    leaf: Tensor,
) -> list[Tensor]:
    """Return the leaves that a result was computed from and that require a gradient, but for the one that is known.

    A `torch.autograd.Function` passes gradients to its arguments alone; a learned number that a user's margin
    holds must therefore become one. It is found at the root of the graph of what the margin returned.

    Args:
        result: of a computation.
        leaf: what it was called with.

    >>> import torch
    >>> m, cosine = torch.nn.Parameter(torch.tensor(0.3)), torch.zeros(3, requires_grad=True)
    >>> leaves_behind(cosine - m.exp(), cosine)[0] is m
    True
    """
    found: dict[int, Tensor] = {}
    seen, waiting = set(), [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # only the node that accumulates a leaf's gradient has one
        if variable is not None and variable is not leaf:
            found[id(variable)] = variable
        waiting.extend(next_node for next_node, _ in node.next_functions)
    return list(found.values())
