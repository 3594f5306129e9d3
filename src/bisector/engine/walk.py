"""The walk over chunks of rows and blocks of classes, and the three products."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bisector.engine.budget import WORKSPACE, aligned
from bisector.engine.competitors import Chunk, Competitors
from bisector.engine.placement import Shard
from bisector.engine.plan import plan
from bisector.engine.products import add_product, lengths
from bisector.engine.rows import RowTerms
from bisector.functional.margins import Margin
from bisector.functional.scores import Score, working_dtype


class Walk:
    r"""Walks the batch in chunks of rows and, for each, the classes in blocks, forth and back.

    Forth, the product :math:`\hat W_{block} \hat X_{chunk}^\top` gives the scores, classes first, which
    `Competitors` adds to its sums; back, the same scores, kept or computed again, become their gradient G in
    place, and two products make of it :math:`G \hat X` for the block's weights and :math:`G^\top \hat W` for
    the chunk's embeddings. Only a block of the normalised weights exists at a time.

    Args:
        x: (B, D) embeddings.
        weight: (C', D) or (C', K, D), the classes held here.
        labels: (B,) in 0..C-1.
        terms: of the row loss.
        score: cosine or dot.
        margin: of the loss.
        scale: s.
        offset: (C',) or None.
        learned: what is learned inside a user's margin and wants a gradient.
        scratch: bytes for a chunk.
        accumulation: in which products of half precision are summed.
        shard: which classes these are.
        products: dtype of the products' factors.
        competitors: who does the elementwise part.
        wants: whether embeddings, weights, scale and offset want a gradient.
    """

    def __init__(
        self,
        x: Tensor,
        weight: Tensor,
        labels: Tensor,
        terms: RowTerms,
        *,
        score: Score,
        margin: Margin,
        scale: float | Tensor,
        offset: Tensor | None,
        learned: list[Tensor],
        scratch: int,
        accumulation: torch.dtype,
        shard: Shard,
        products: torch.dtype,
        competitors: type[Competitors],
        wants: tuple[bool, bool, bool, bool],
    ) -> None:
        self.x, self.weight, self.labels, self.terms, self.shard = x, weight, labels, terms, shard
        self.cosine, self.scale, self.products, self.budget = score == "cosine", scale, products, scratch
        precise = working_dtype(x, weight)
        self.dtype = torch.promote_types(precise, accumulation)
        self.sub_centers = 1 if weight.dim() == 2 else weight.shape[1]
        self.like = x.new_empty(0, dtype=precise)
        classes = slice(shard.first, shard.first + len(weight))
        self.competitors = competitors(
            margin, terms, scale, offset, classes, self.sub_centers, self.like, learned
        )
        self.wants_x, self.wants_weight, wants_scale, wants_offset = wants
        if wants_scale:
            self.competitors.grad_scale = self.like.new_zeros(())
        if wants_offset:
            self.competitors.grad_offset = torch.zeros(len(weight), dtype=self.dtype, device=x.device)
        self.grad_x: Tensor | None = None
        self.grad_weight: Tensor | None = None
        self._grad_rows: Tensor | None = None  # the same, one row a sub-centre
        self.norms: Tensor | None = (
            None  # (C' K, 1) one over the weights' norms, 0 for those without direction
        )

    def forward(
        self,
        own_logits: Tensor,  # (B,)
        row_weight: Tensor | None,  # (B,)
    ) -> tuple[Tensor, Tensor]:
        """Return lse - z_y and the sums of d z, (B,) each; with the rows' weights, make the gradients too."""
        self._cut(keeping=row_weight is not None)
        try:
            return self._forth(own_logits, row_weight)
        finally:
            self.memory.give_back()

    def backward(self, own_logits: Tensor, nll: Tensor, row_weight: Tensor) -> None:
        """Make the gradients for known (B,) sums, with the scores computed again."""
        self._cut(keeping=False)
        try:
            for chunk, x, norms in self._chunks(own_logits):
                self._back(chunk, x, norms, own_logits, nll, row_weight)
        finally:
            self.memory.give_back()

    def _forth(self, own_logits: Tensor, row_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        nll, target_dot = torch.empty_like(own_logits), torch.empty_like(own_logits)
        for chunk, x, norms in self._chunks(own_logits):
            turned = self._turned(x)
            for number, start, stop in self._blocks():
                scores = self._scores(start, stop, turned)
                work = self._work(stop - start, x)
                self.competitors.statistics(scores, chunk, number, start, work, self.weights_kept)
            self._meet(chunk)
            nll[chunk.rows] = self.competitors.nll(chunk, own_logits[chunk.rows])
            target_dot[chunk.rows] = self.competitors.target_dot(chunk)
            if row_weight is not None:
                self._back(chunk, x, norms, own_logits, nll, row_weight)
        return nll, target_dot

    def _cut(self, keeping: bool) -> None:
        """Decide the sizes and take the memory."""
        size, dim, work = self.products.itemsize, self.x.shape[1], self.like.dtype.itemsize
        device = self.x.device
        for kept in (True, False) if keeping else (False,):
            cut = plan(
                len(self.x),
                self.shard.widest,
                row_bytes=dim * (2 * size + 3 * work) + 16 * work,
                class_bytes=self.sub_centers * dim * (2 * size + 2 * work),
                pair_bytes=self.competitors.pair_bytes(self.products, kept),
                kept_bytes=self.sub_centers * size if kept else 0,
                budget=self.budget,
                on_cpu=device.type == "cpu",
            )
            if cut.keep == kept:
                break
        buffers = self.competitors.buffers(self.products, cut.keep)
        self.rows, self.keep = cut.rows, cut.keep
        self.weights_kept = cut.keep and self.competitors.keeps_weights_as(self.products)
        classes = len(self.weight)
        self.starts = [*range(0, classes, cut.classes), classes]
        pairs = min(cut.classes, classes) * cut.rows
        held = (classes * cut.rows if cut.keep else pairs) * self.sub_centers
        widest, work_type = min(cut.classes, classes) * self.sub_centers, self.like.dtype
        need = (held * size, buffers * pairs * work, widest * dim * size)
        self.memory = WORKSPACE.take(sum(map(aligned, need)), device)
        self.held = self.memory.tensor(held, dtype=self.products)
        self.scratch = self.memory.tensor(buffers, pairs, dtype=work_type)
        self.block = self.memory.tensor(widest, dim, dtype=self.products)

    def _chunks(self, own_logits: Tensor) -> Iterator[tuple[Chunk, Tensor, Tensor | None]]:
        """Yield each chunk with its (b, D) embeddings, of length 1 for cosines, and their lengths."""
        for start in range(0, len(self.x), self.rows):
            rows = slice(start, min(start + self.rows, len(self.x)))
            x, norms = self.x[rows].to(self.like.dtype), None
            if self.cosine:
                norms = lengths(x, x.dtype)
                x = x / norms
            yield self.competitors.begin(rows, self.labels[rows], own_logits[rows], self.starts), x, norms

    def _blocks(self) -> Iterator[tuple[int, int, int]]:
        for number, (start, stop) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            if stop > start:
                yield number, start, stop

    def _normalised(self, start: int, stop: int) -> Tensor:
        """Return the (c K, D) weights of a block as the products take them."""
        rows = self.weight[start:stop].flatten(0, -2)
        if not self.cosine:
            return rows.to(self.products)
        if self.norms is None:
            self.norms = self.like.new_empty(len(self.weight) * self.sub_centers, 1)
            self.measured = 0
        here = slice(start * self.sub_centers, stop * self.sub_centers)
        if self.measured < here.stop:
            self.norms[here] = lengths(rows, self.like.dtype)
            self.measured = here.stop
        block = self.block[: len(rows)]
        if rows.dtype == block.dtype:
            return torch.div(rows, self.norms[here], out=block)
        return block.copy_(rows / self.norms[here])  # writing to another dtype at once is slow

    def _place(self, start: int, stop: int, rows: int) -> Tensor:
        """Return where the scores of a block lie: its own place where they are kept, else the one for all."""
        first = start if self.keep else 0
        flat = self.held[first * self.sub_centers * rows :][: (stop - start) * self.sub_centers * rows]
        return flat.view(-1, rows)

    def _work(self, classes: int, x: Tensor) -> Tensor:
        return self.scratch[:, : classes * len(x)].view(len(self.scratch), classes, len(x))

    def _meet(self, chunk: Chunk) -> None:
        """Put the sums together with those of the processes that hold the other classes."""
        largest = self.shard.max(chunk.largest)
        chunk.total = self.shard.sum(chunk.total * (chunk.largest - largest).exp())
        chunk.largest = largest
        if not self.terms.plain:
            chunk.target_dot = self.shard.sum(chunk.target_dot)

    def _scores(self, start: int, stop: int, turned: Tensor) -> Tensor:
        """Return the (c K, b) scores of a block, computed into its place."""
        place = self._place(start, stop, turned.shape[1])
        return torch.mm(self._normalised(start, stop), turned, out=place)

    def _turned(self, x: Tensor) -> Tensor:
        """Return the (D, b) embeddings as the first product takes them."""
        return x.t().to(self.products).contiguous()

    def _back(
        self,
        chunk: Chunk,
        x: Tensor,
        norms: Tensor | None,
        own_logits: Tensor,
        nll: Tensor,
        row_weight: Tensor,
    ) -> None:
        """Turn the scores of a chunk into their gradient, block by block, and do the two products."""
        rows, boost = chunk.rows, self._boost(row_weight)
        first, last = rows.start == 0, rows.stop == len(self.x)
        if first:
            self._take_gradients()
        row_weight = row_weight[rows] * boost
        lse = own_logits[rows] + nll[rows]
        known = lse, row_weight * self.terms.total_pull(nll[rows], rows), row_weight
        pulled = torch.zeros_like(x)
        by_row = (x * self.scale).to(self.products)
        turned = None if self.keep else self._turned(x)
        for number, start, stop in self._blocks():
            place = self._place(start, stop, len(x))
            scores = place if turned is None else self._scores(start, stop, turned)
            factor = None
            if self.weights_kept:
                factor = self.competitors.gradient_of_weights(scores, chunk, number, start, *known)
            else:
                work = self._work(stop - start, x)
                self.competitors.gradient(scores, chunk, number, start, work, *known)
            unit = self._normalised(start, stop)
            if self.grad_x is not None:
                add_product(pulled, scores.t(), unit, factor=factor)
            if self._grad_rows is not None:
                part = self._grad_rows[start * self.sub_centers : stop * self.sub_centers]
                if factor is not None:
                    by_row = (x * (factor * self.scale)[:, None]).to(self.products)
                add_product(part, scores, by_row, fresh=first)
                if last:
                    self._finish(part, unit, start, stop, boost)
        if self.grad_x is not None:
            pulled.mul_(self.scale / boost)
            if norms is not None:
                pulled.sub_((pulled * x).sum(1, keepdim=True) * x).div_(norms)
            self.grad_x[rows] = pulled
        if last:
            self.competitors.divide_sums(boost)

    def _take_gradients(self) -> None:
        """Take the memory of the gradients, which are all written before they are read."""
        if self.wants_weight:
            shape = (len(self.weight) * self.sub_centers, self.x.shape[1])
            self._grad_rows = torch.empty(shape, dtype=self.dtype, device=self.x.device)
            self.grad_weight = self._grad_rows.view(self.weight.shape)
        if self.wants_x:
            self.grad_x = torch.empty(self.x.shape, dtype=self.like.dtype, device=self.x.device)

    def _finish(self, gradient: Tensor, unit: Tensor, start: int, stop: int, boost: float | Tensor) -> None:
        """Take the gradient of a block's normalised weights to that of the weights, in place."""
        if not self.cosine or self.norms is None:
            if isinstance(boost, Tensor):
                gradient.div_(boost)
            return
        norms = self.norms[start * self.sub_centers : stop * self.sub_centers].to(gradient.dtype)
        if unit.dtype != gradient.dtype:
            unit = self.weight[start:stop].flatten(0, -2).to(gradient.dtype) / norms
        radial = (gradient * unit).sum(1, keepdim=True)
        gradient.addcmul_(unit, radial, value=-1).div_(norms * boost)

    def _boost(self, row_weight: Tensor) -> float | Tensor:
        """Return a power of two that keeps the pulls on the scores from vanishing in float16; 1 elsewhere."""
        if self.products != torch.float16:
            return 1.0
        largest = (row_weight * self.terms.mass).abs().max()
        return torch.where(largest > 0, torch.exp2(torch.floor(8 - torch.log2(largest))), 1.0)
