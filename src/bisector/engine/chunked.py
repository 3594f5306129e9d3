"""The loss in chunks of rows and blocks of classes: the numbers of the dense formula without its B x C matrices."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bisector.engine.budget import WORKSPACE, MemoryBudget, aligned, plan
from bisector.engine.competitors import LOG2_E, Block, Chunk, Competitors, Pull
from bisector.engine.targets import OwnScores, RowTerms, Shard, own_scores
from bisector.errors import require
from bisector.functional.cosine import SHORTEST
from bisector.functional.reference import LossSpec
from bisector.functional.scores import working_dtype


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a loss: all that needs no gradient.

    Attributes:
        spec: of the loss; a scale and offsets that are tensors come as arguments that may need a gradient.
        labels: (B,) in 0..C-1.
        terms: of the row loss.
        own: the scores of the rows' own classes.
        budget: of memory.
        shard: which classes are held here.
        products: the dtype of the products' factors.
        competitors: who does the elementwise part.
        learning: whether gradients are wanted at all.
    """

    spec: LossSpec
    labels: Tensor
    terms: RowTerms
    own: OwnScores
    budget: MemoryBudget
    shard: Shard
    products: torch.dtype
    competitors: type[Competitors]
    learning: bool


def chunked_loss(
    embeddings: Tensor,  # (B, D)
    weight: Tensor,  # (C', D) or (C', K, D), the classes that this process holds
    labels: Tensor,  # (B,) of all C classes, or (B, C) probabilities
    spec: LossSpec,  # with the offsets of the classes held here
    budget: MemoryBudget,
    competitors: type[Competitors] = Competitors,
    shard: Shard | None = None,
) -> Tensor:
    """Return the loss that `bisector.margin_cross_entropy` documents, within a memory budget.

    The rows are walked in chunks and the classes in blocks. For "mean" and "sum" the gradients are made along
    with the loss, in place, while the scores are at hand; for "none", and when a graph is used twice, the
    backward pass makes them from scores that it computes again.
    """
    shard = shard or Shard(0, len(weight), len(weight))
    kept = labels != spec.ignore_index if labels.dim() == 1 else None
    target = labels.argmax(1) if kept is None else labels.where(kept, 0)
    precise, device = working_dtype(embeddings, weight), embeddings.device
    learning = torch.is_grad_enabled()  # inside an autograd function it never is
    products = precise
    if precise == torch.float32 and torch.is_autocast_enabled(device.type):
        products = torch.get_autocast_dtype(device.type)
        # A CPU's float16 products are many times slower than float32, and overflow: they come back in float16.
        if device.type == "cpu" and products == torch.float16:
            products = precise
    with torch.autocast(device.type, enabled=False):
        with torch.no_grad():
            scores = own_scores(embeddings, weight, target, spec, shard, precise, budget.bytes_on(device))
        own = OwnScores.of(scores, target, spec.margin, spec.margin.lengths(embeddings, kept), learning)
        learned = leaves_behind(own.moved, own.leaf) if learning else []
        if learning and spec.margin.custom is not None:
            probe = scores.new_zeros(1, 1).requires_grad_()
            result = spec.margin.custom(probe.clone(), target[:1, None], target[:1])
            learned += [
                leaf for leaf in leaves_behind(result, probe) if all(leaf is not one for one in learned)
            ]
        terms = RowTerms.of(spec, labels, target, kept, shard.classes, precise)
        scale = spec.scale if isinstance(spec.scale, Tensor) else None
        known = replace(spec, scale=1.0 if scale is not None else spec.scale, offset=None)
        call = Call(known, target, terms, own, budget, shard, products, competitors, learning)
        loss: Tensor = _ChunkedLoss.apply(call, embeddings, weight, scale, spec.offset, *learned)
    return loss


def leaves_behind(result: Tensor, leaf: Tensor) -> list[Tensor]:
    """Return the leaves that a result was computed from and that require a gradient, but for the one that is known.

    A `torch.autograd.Function` passes gradients to its arguments alone; a learned number that a user's margin
    holds must therefore become one. It is found at the root of the graph of what the margin returned.

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


class _ChunkedLoss(torch.autograd.Function):
    """The walk as one node of the graph, between the embeddings and weights and the loss."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor | None) -> Tensor:
        needed = tuple(wants and call.learning for wants in ctx.needs_input_grad[1:])
        walk = Walk(call, tensors, needed)
        row_weight = call.terms.row_weight
        now = call.spec.reduction != "none" and any(needed)
        rows, nll = walk.losses(row_weight if now else None)
        ctx.call, ctx.needed, ctx.gradients = call, needed, walk.gradients()
        ctx.save_for_backward(nll, *tensors)
        return rows if call.spec.reduction == "none" else rows @ row_weight

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # in place: who comes again gets them made again
        nll, *tensors = ctx.saved_tensors
        with torch.no_grad(), torch.autocast(upstream.device.type, enabled=False):
            if gradients is None:
                terms, walk = ctx.call.terms, Walk(ctx.call, tensors, ctx.needed)
                walk.again(nll, upstream * (terms.kept if upstream.dim() else terms.row_weight))
                gradients = walk.gradients()
            elif upstream.device.type != "cpu" or float(upstream) != 1:
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


class Walk:
    r"""Walks the batch in chunks of rows and, for each, the classes in blocks, forth and back.

    Forth, the product :math:`W_{block} \hat X_{chunk}^\top` gives the scores, classes first, which `Competitors`
    adds to its sums; back, the same scores, kept or computed again, become their gradient G in place, the rows'
    own classes included, and two products make of it :math:`G \hat X` for the block's weights and
    :math:`G^\top W` for the chunk's embeddings. W are the weights as they are where `raw`, else a copy of
    the block at hand of length 1, in the products' dtype; then G is by the cosines times 1 over the weights' norms.

    Args:
        call: the loss.
        tensors: embeddings, weights, scale, offsets, and what is learned inside a user's margin.
        needed: which of them want a gradient.
    """

    def __init__(self, call: Call, tensors: Any, needed: tuple[bool, ...]) -> None:
        x, weight, scale, offset, *learned = tensors
        self.call, self.needed, self.x, self.weight = call, needed, x, weight
        self.own, self.terms, self.shard = call.own, call.terms, call.shard
        self.scale: float | Tensor = call.spec.scale if scale is None else scale.detach()
        self.learned = [leaf for leaf, wants in zip(learned, needed[4:], strict=True) if wants]
        precise = working_dtype(x, weight)
        self.dtype = torch.promote_types(precise, call.budget.accumulation)
        self.like = x.new_empty(0, dtype=precise)
        self.sub_centers = 1 if weight.dim() == 2 else weight.shape[1]
        self.grad_x: Tensor | None = None
        self.grad_weight: Tensor | None = None
        self.made = False  # whether the gradients are there
        self.all_known = False  # whether the losses of all rows were known before
        grad_offset = torch.zeros(len(weight), dtype=self.dtype, device=x.device) if needed[3] else None
        self.competitors = call.competitors(
            replace(call.spec, scale=self.scale, offset=offset),
            call.terms,
            slice(self.shard.first, self.shard.first + len(weight)),
            self.sub_centers,
            self.like,
            self.learned,
            needed[2],
            grad_offset,
        )
        self.own_logits = self.own.moved.detach() * self.scale
        self.place, self.held = self.shard.places(call.labels, len(weight))
        if offset is not None:
            own_offset = torch.where(self.held, offset.detach()[self.place], 0) if len(weight) else None
            zeros = torch.zeros_like(self.own_logits)
            self.own_logits += self.shard.sum(zeros if own_offset is None else own_offset.to(zeros))
        self.own_pull = torch.zeros_like(self.own_logits)  # by the own logits, of the rows that were walked
        self.cosine = call.spec.score == "cosine"
        self.raw = self.cosine and weight.dtype == precise == call.products
        self.raw = self.raw and self.competitors.takes_raw_weights
        self.norms = self.like.new_empty(len(weight) * self.sub_centers, 1)
        self.measured = 0  # classes whose norms are known

    def losses(self, row_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the (B,) losses and lse - z_y; with the rows' weights, make the gradients on the way.

        They cannot be made on the way where the rule of the target mixes rows of several chunks.
        """
        nll, target_dot = torch.empty_like(self.own_logits), torch.empty_like(self.own_logits)
        self.made = row_weight is not None
        with self._memory(keeping=self.made):
            for chunk, x, norms in self._chunks():
                nll[chunk.rows], target_dot[chunk.rows] = self._sums(chunk, x)
                if self.made and row_weight is not None:
                    self._make_gradients(chunk, x, norms, nll, row_weight)
        return self.terms.losses(nll, self.own_logits, target_dot), nll

    def again(self, nll: Tensor, row_weight: Tensor) -> None:
        """Make the gradients for known (B,) sums, with the scores computed again."""
        self.made = self.all_known = True
        self.own_pull = row_weight * self.terms.own_pull(nll, slice(None))
        with self._memory(keeping=False):
            for chunk, x, norms in self._chunks():
                self._make_gradients(chunk, x, norms, nll, row_weight)

    def gradients(self) -> list[Tensor | None] | None:
        """Return the gradients in the order of the tensors; None where they were not made."""
        if not self.made:
            return None
        rule = self.competitors
        if rule.grad_offset is not None and len(self.weight):
            pull = torch.where(self.held, self.own_pull, 0)
            rule.grad_offset.index_add_(0, self.place, pull.to(rule.grad_offset.dtype))
        grad_scale = None
        if rule.grad_scale is not None:
            grad_scale = self.shard.sum(rule.grad_scale) + self.own_pull @ self.own.moved.detach()
        given = [self.grad_x, self.grad_weight, grad_scale, rule.grad_offset]
        _, own = self.own.backward(self.own_pull, self.learned) if self.learned else (None, [])
        learned: list[Tensor] = []
        for mine, part, leaf in zip(own, rule.grad_learned, self.learned, strict=True):
            # All processes must take part in the sum, also one that holds no classes (and has met no margin), and
            # one that holds all that were drawn: it cannot know this of the others.
            everywhere = self.shard.sum(torch.zeros_like(leaf) if part is None else part)
            both = everywhere if mine is None else everywhere + mine
            learned.append(both * self.scale)  # no product follows that would bring it
        rest = iter(learned)
        return given + [next(rest) if wants else None for wants in self.needed[4:]]

    @contextmanager
    def _memory(self, keeping: bool) -> Iterator[None]:
        """Decide the sizes and hold the memory."""
        size, dim, work = self.call.products.itemsize, self.x.shape[1], self.like.dtype.itemsize
        device, rule, products = self.x.device, self.competitors, self.call.products
        for kept in (True, False) if keeping else (False,):
            cut = plan(
                len(self.x),
                self.shard.widest,
                row_bytes=dim * (2 * size + 3 * work) + 16 * work,
                class_bytes=self.sub_centers * dim * (2 * size + 2 * work),
                pair_bytes=rule.pair_bytes(products, kept),
                kept_bytes=self.sub_centers * size if kept else 0,
                budget=self.call.budget.bytes_on(device),
                on_cpu=device.type == "cpu",
            )
            if cut.keep == kept:
                break
        buffers = rule.buffers(products, cut.keep)
        self.rows, self.keep = cut.rows, cut.keep
        self.weights_kept = cut.keep and rule.keeps_weights(products)
        classes = len(self.weight)
        self.starts = [*range(0, classes, cut.classes), classes]
        pairs = min(cut.classes, classes) * cut.rows
        held = (classes * cut.rows if cut.keep else pairs) * self.sub_centers
        widest = min(cut.classes, classes) * self.sub_centers
        need = (held * size, buffers * pairs * work, widest * dim * size)
        memory = WORKSPACE.take(sum(map(aligned, need)), device)
        self.scores = memory.tensor(held, dtype=products)
        self.scratch = memory.tensor(buffers, pairs, dtype=self.like.dtype)
        self.block = memory.tensor(widest, dim, dtype=products)
        try:
            yield
        finally:
            memory.give_back()

    def _chunks(self) -> Iterator[tuple[Chunk, Tensor, Tensor | None]]:
        """Yield each chunk with its (b, D) embeddings, of length 1 for cosines, and their norms."""
        for start in range(0, len(self.x), self.rows):
            rows = slice(start, min(start + self.rows, len(self.x)))
            x, norms = self.x[rows].to(self.like.dtype), None
            if self.cosine:
                norms = _norms(x, x.dtype)
                x = x / norms
            chunk = self.competitors.begin(rows, self.call.labels[rows], self.own_logits[rows], self.starts)
            yield chunk, x, norms

    def _blocks(self) -> Iterator[tuple[Block, Tensor]]:
        """Yield each block of classes with its (c K, D) weights as the products take them."""
        for number, (start, stop) in enumerate(pairwise(self.starts)):
            rows = self.weight[start:stop].flatten(0, -2)
            norms = self.norms[start * self.sub_centers : stop * self.sub_centers]
            if self.cosine and self.measured < stop:
                norms.copy_(_norms(rows, self.like.dtype))
                self.measured = stop
            if self.raw:
                yield Block(number, start, stop, norms), rows
            elif not self.cosine:
                yield Block(number, start, stop, None), rows.to(self.call.products)
            else:
                unit = self.block[: len(rows)]
                # Writing to another dtype at once is slow.
                same = rows.dtype == unit.dtype
                unit = torch.div(rows, norms, out=unit) if same else unit.copy_(rows / norms)
                yield Block(number, start, stop, None), unit

    def _place(self, block: Block, rows: int) -> tuple[Tensor, Tensor]:
        """Return where the (c K, b) scores of a block lie, its own place where they are kept, and its scratch."""
        first = block.start * self.sub_centers * rows if self.keep else 0
        classes = block.stop - block.start
        scores = self.scores[first : first + classes * self.sub_centers * rows].view(-1, rows)
        return scores, self.scratch[:, : classes * rows].view(-1, classes, rows)

    def _compute(self, block: Block, weights: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the scores of a block into their place; return them and the block's scratch."""
        scores, work = self._place(block, turned.shape[1])
        torch.mm(weights, turned, out=scores)
        if block.norms is not None and not self.competitors.takes_raw_scores(self.weights_kept):
            scores.div_(block.norms)
        return scores, work

    def _sums(self, chunk: Chunk, x: Tensor) -> tuple[Tensor, Tensor]:
        """Walk a chunk forth; return lse - z_y and the sums of d z over the classes of all processes."""
        rule, keep, turned = self.competitors, self.weights_kept, x.to(self.call.products).t()
        for block, weights in self._blocks():
            rule.add(*self._compute(block, weights, turned), chunk, block, keep)
        if rule.must_restart(chunk):  # a logit far above those of the first block
            for block, weights in self._blocks():
                rule.raise_reference(*self._compute(block, weights, turned), chunk, block, keep)
            rule.restart(chunk)
            for block, weights in self._blocks():
                rule.add(*self._compute(block, weights, turned), chunk, block, keep)
        reference = self.shard.max(chunk.reference)
        total = self.shard.sum(chunk.total * (chunk.reference - reference).exp2())
        nll = rule.nll(reference, total, self.own_logits[chunk.rows])
        if self.terms.plain:
            return nll, chunk.target_dot
        rest = (self.terms.mass - self.terms.own)[chunk.rows]
        return nll, self.shard.sum(rule.target_dot(chunk)) + rule.shift * rest

    def _make_gradients(
        self, chunk: Chunk, x: Tensor, norms: Tensor | None, nll: Tensor, row_weight: Tensor
    ) -> None:
        """Turn the scores of a chunk into their gradient, block by block, and do the two products."""
        rows, rule = chunk.rows, self.competitors
        own = self._own_gradient(rows, nll, row_weight)
        if own is None:
            self.made, self.grad_x, self.grad_weight = False, None, None
            return
        first, last = rows.start == 0, rows.stop == len(self.x)
        if first:  # all of it is written before it is read
            like, needed = self.like, self.needed
            self.grad_x = like.new_empty(self.x.shape) if needed[0] else None
            self.grad_weight = like.new_empty(self.weight.shape, dtype=self.dtype) if needed[1] else None
        boost = self._boost(row_weight)
        if boost is not None:  # a row that points along its class may have a pull beyond the range
            row_weight, own = row_weight * boost, (own * boost).clamp(-6e4, 6e4)
        lse = self.own_logits[rows] + nll[rows]
        mass = row_weight[rows] * self.terms.total_pull(nll[rows], rows)
        factor = (chunk.reference + (rule.shift - lse) * LOG2_E).exp2_().mul_(mass)
        late = self.weights_kept and self.terms.plain  # the factor is left to the embeddings
        if late:
            own = own / torch.where(factor != 0, factor, 1)
        pull = Pull(lse, mass, row_weight[rows], own, factor)
        scale = (factor * self.scale)[:, None] if late else self.scale
        scaled = (x * scale).to(self.call.products)
        turned = None if self.keep else x.to(self.call.products).t()
        pulled = torch.zeros_like(x)
        for block, weights in self._blocks():
            scores = self._gradient_of_scores(chunk, block, weights, turned, pull)
            if self.grad_x is not None:
                _add_product(pulled, scores.t(), weights)
            if self.grad_weight is not None:
                part = self.grad_weight[block.start : block.stop].view(len(scores), -1)
                _add_product(part, scores, scaled, fresh=first)
                if last:
                    self._finish(part, block, boost)
        if self.grad_x is not None:
            pulled.mul_(scale if boost is None else scale / boost)
            if norms is not None:
                pulled.sub_((pulled * x).sum(1, keepdim=True) * x).div_(norms)
            self.grad_x[rows] = pulled
        if last and boost is not None:
            rule.divide_sums(boost)

    def _gradient_of_scores(
        self, chunk: Chunk, block: Block, weights: Tensor, turned: Tensor | None, pull: Pull
    ) -> Tensor:
        """Return the (c K, b) gradient by the scores of a block, kept or computed again, in their place."""
        rows = chunk.rows.stop - chunk.rows.start
        places = self._place(block, rows) if turned is None else self._compute(block, weights, turned)
        if self.weights_kept:
            self.competitors.gradient_of_weights(places[0], chunk, block, pull)
        else:
            self.competitors.gradient(*places, chunk, block, pull)
        return places[0]

    def _own_gradient(self, rows: slice, nll: Tensor, row_weight: Tensor) -> Tensor | None:
        """Return the (b,) gradient by the scores of the rows' own classes but for the scale.

        None where the target's rule has a row depend on rows of other chunks, whose losses are not known yet.
        """
        if self.all_known:
            return self.own.backward(self.own_pull, [])[0][rows]
        self.own_pull[rows] = row_weight[rows] * self.terms.own_pull(nll[rows], rows)
        if rows.start == 0 and rows.stop == len(nll):
            return self.own.backward(self.own_pull, [])[0]
        pull = torch.zeros_like(self.own_pull)
        pull[rows] = self.own_pull[rows]
        by_scores = self.own.backward(pull, [])[0].clone()
        own = by_scores[rows].clone()
        by_scores[rows] = 0
        return None if bool(by_scores.any()) else own

    def _boost(self, row_weight: Tensor) -> Tensor | None:
        """Return a power of two that keeps the pulls on the scores from vanishing in float16; None elsewhere."""
        if self.call.products != torch.float16:
            return None
        largest = (row_weight * self.terms.mass).abs().max()
        return torch.where(largest > 0, torch.exp2(torch.floor(8 - torch.log2(largest))), 1.0)

    def _finish(self, gradient: Tensor, block: Block, boost: Tensor | None) -> None:
        """Take the (c K, D) gradient of a block's normalised weights to that of the weights, in place."""
        if self.cosine:
            norms = self.norms[block.start * self.sub_centers : block.stop * self.sub_centers]
            norms = norms.to(gradient.dtype)
            if not self.raw:
                gradient.div_(norms)
            rows = self.weight[block.start : block.stop].flatten(0, -2).to(gradient.dtype)
            kept = self.block[: len(rows)] if self.block.dtype == gradient.dtype else None
            radial = torch.mul(gradient, rows, out=kept).sum(1, keepdim=True)
            gradient.addcmul_(rows, radial.div_(norms.square()), value=-1)
        if boost is not None:
            gradient.div_(boost)


def _norms(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the (n, 1) length of each row; infinite for one without direction, as in `functional.cosine.unit`."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=dtype)
    return torch.where(norms > SHORTEST, norms, math.inf)


def _add_product(
    total: Tensor,  # (m, n), float32 or better
    a: Tensor,  # (m, k)
    b: Tensor,  # (k, n), of the dtype of a
    fresh: bool = False,
) -> None:
    """Add a @ b to a total in place, or write it, summed in the precision of the total where the device can."""
    if a.dtype == total.dtype:
        torch.mm(a, b, out=total) if fresh else total.addmm_(a, b)
        return
    wide = a.device.type == "cuda" and a.dtype in {torch.float16, torch.bfloat16}
    product = torch.mm(a, b, out_dtype=torch.float32) if wide else torch.mm(a, b)
    total.copy_(product) if fresh else total.add_(product)
