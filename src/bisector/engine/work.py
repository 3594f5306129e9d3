"""One pass over the batch: the targets, the walk over the competitors, and the gradients they add up to."""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from bisector.engine.walk import Walk

if TYPE_CHECKING:
    from bisector.engine.chunked import Call


class Work:
    """The numbers of one call: losses, or gradients, or both in one go."""

    def __init__(self, call: "Call", tensors: Any, needed: tuple[bool, ...]) -> None:
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
        self.share: Tensor | None = None
        self.own_logits = call.moved.detach() * self.scale
        if offset is not None:
            self.own_logits = self.own_logits + self.targets.offsets(offset.detach())

    def losses(self, share: Tensor | None) -> Tensor:
        """Return the (B,) losses; with the rows' shares, make the gradients on the way."""
        self.share = share
        self.gap, asked = self.walk.forward(self.own_logits, share)
        return self.call.terms.losses(self.gap, self.own_logits, asked)

    def again(self, gap: Tensor, share: Tensor) -> None:
        """Make the gradients for known (B,) sums."""
        self.gap, self.share = gap, share
        self.walk.backward(self.own_logits, gap, share)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients in the order of the tensors, after the targets have added theirs."""
        assert self.share is not None
        pull = self.share * self.call.terms.own_pull(self.gap)  # on the targets' logits
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
