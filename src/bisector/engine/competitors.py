"""The competitors' logits, block by block: their statistics, and the pull of the loss on their scores."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bisector.engine.angles import AngleVectors, PairwiseBlocks
from bisector.engine.rows import RowTerms
from bisector.functional.margins import Margin, apply_custom


@dataclass(eq=False)
class Chunk:
    """A chunk of rows on its way through the blocks of classes.

    Attributes:
        rows: which of the batch.
        labels: (b,) their classes, counted from the first class that this process holds.
        largest: (b,) the largest logit so far.
        total: (b,) the sum of exp(logit - largest) over the competitors so far.
        target_dot: (b,) the sum of d times logit so far.
        peaks: for each block whose weights are kept, what `largest` was when they were taken.
        angles: the pairwise margin's vectors for the rows' targets.
        order: on the CPU, rows sorted by label, the sorted labels, and where each block begins among them.
    """

    rows: slice
    labels: Tensor
    largest: Tensor
    total: Tensor
    target_dot: Tensor
    angles: AngleVectors | None = None
    peaks: list[Tensor] = field(default_factory=list)
    order: tuple[Tensor, Tensor, list[int]] | None = None

    def fill_targets(self, block: Tensor, number: int, start: int, value: float) -> None:
        """Set the targets' entries of a (c, b) block whose first class is `start`."""
        if self.order is not None:  # few blocks have any, and on the CPU it costs nothing to know which
            rows, labels, begins = self.order
            here = slice(begins[number], begins[number + 1])
            if here.stop > here.start:
                block[labels[here] - start, rows[here]] = value
            return
        place = self.labels - start
        inside = (place >= 0) & (place < len(block))
        place = place.clamp(0, len(block) - 1)[None]
        block.scatter_(0, place, torch.where(inside, value, block.gather(0, place)))


class Competitors:
    r"""What becomes of a block of scores, classes first.

    .. math:: z_{ji} = s\,(\psi(\theta_{ji} \pm m_{y_i j}) + \mathrm{shift}) + b_j

    `statistics` takes the scores to the sums that the loss needs; it can leave in their place the weights
    :math:`e^{z - \mathrm{largest}}\,\partial\psi/\partial\cos`, which are the gradient but for one factor a row.
    `gradient` turns scores into their gradient in place, and `gradient_of_weights` turns such weights.

    Args:
        margin: of the loss.
        terms: of the row loss.
        scale: s.
        offset: (C',) b of the classes held here, or None.
        classes: which of all classes are held here.
        sub_centers: K.
        like: a tensor in whose place and dtype (float32 or better) all of it is done.
        learned: what is learned inside a user's margin.
    """

    def __init__(
        self,
        margin: Margin,
        terms: RowTerms,
        scale: float | Tensor,
        offset: Tensor | None,
        classes: slice,
        sub_centers: int,
        like: Tensor,
        learned: list[Tensor],
    ) -> None:
        self.margin, self.terms, self.classes, self.sub_centers = margin, terms, classes, sub_centers
        self.scale = float(scale) if like.device.type == "cpu" or not isinstance(scale, Tensor) else scale
        self.offset = None if offset is None else offset.detach().to(like)
        self.pairwise = None if margin.pairwise is None else PairwiseBlocks(margin.pairwise, classes, like)
        self.dtype, self.learned = like.dtype, learned
        self.grad_scale: Tensor | None = None
        self.grad_offset: Tensor | None = None
        self.grad_learned: list[Tensor | None] = [None] * len(learned)

    @property
    def keeps_weights(self) -> bool:
        """Whether the weights say all that the gradient needs, so that no exponential is taken twice."""
        easy = self.margin.custom is None and self.sub_centers == 1 and self.terms.uniform
        flat = self.pairwise is None or (self.terms.plain and self.grad_offset is None)
        return easy and flat and self.grad_scale is None

    def keeps_weights_as(self, scores: torch.dtype) -> bool:
        """Return whether weights are kept in a dtype: in half precision only if nothing is done to them later."""
        final = self.terms.plain and self.grad_offset is None
        fits = scores == self.dtype or (final and scores != torch.float16)  # the factor would leave its range
        return self.keeps_weights and fits

    def buffers(self, scores: torch.dtype, keeping: bool) -> int:
        """Return how many (c, b) buffers a block needs beside its scores, for the pass that needs most."""
        in_place = scores == self.dtype and keeping and self.keeps_weights_as(scores)
        converted = scores != self.dtype and self.sub_centers == 1
        return (0 if in_place else 1 + converted) + (4 if self.pairwise is not None else 0)

    def pair_bytes(self, scores: torch.dtype, keeping: bool) -> int:
        """Return the bytes that a block takes for each of its pairs: its scores, its buffers, what passes by."""
        size = self.dtype.itemsize
        passing = 0
        if self.sub_centers > 1:
            passing += size + 8 + self.sub_centers * scores.itemsize  # the best score and its place
        if not self.terms.plain:
            passing += 2 * size  # what is wanted of each, and its weight
        if self.margin.custom is not None:
            passing += 6 * size  # the user's own; who needs more takes a smaller budget
        if self.pairwise is not None:
            passing += 3 * size if self.pairwise.short else 12 * size
        if self.grad_scale is not None:
            passing += 2 * size
        kept = 0 if keeping else self.sub_centers * scores.itemsize
        return kept + passing + size * self.buffers(scores, keeping)

    def begin(self, rows: slice, labels: Tensor, own_logits: Tensor, starts: list[int]) -> Chunk:
        """Return a chunk that has seen no block yet.

        Args:
            rows: which of the batch.
            labels: (b,) in 0..C-1.
            own_logits: (b,) of the targets; they keep the first maximum finite.
            starts: the first class of each block, and the end of the last, counted among those held here.
        """
        zeros = torch.zeros_like(own_logits)
        angles = None if self.pairwise is None else self.pairwise.r[labels]
        local = labels - self.classes.start
        order = None
        if labels.device.type == "cpu":
            ordered, by_label = local.sort()
            order = by_label, ordered, torch.searchsorted(ordered, ordered.new_tensor(starts)).tolist()
        return Chunk(rows, local, own_logits - self._shift(), zeros, zeros.clone(), angles, order=order)

    def statistics(
        self, scores: Tensor, chunk: Chunk, number: int, start: int, work: Tensor, keep: bool
    ) -> None:
        """Add a block to the chunk's sums.

        Args:
            scores: (c K, b), left as they are, or, with `keep`, turned into weights.
            chunk: of rows.
            number: of the block.
            start: its first class, counted among those held here.
            work: (`buffers`, c, b).
            keep: whether the weights are wanted.
        """
        cosines = self._cosines(scores, chunk, number, start, work)[0]
        if self.margin.custom is not None:
            with torch.no_grad():
                cosines = self._custom(cosines.clone(), chunk, start)  # the scores are needed again
        moved, slope = self._move(cosines, chunk, start, work)
        out = scores if keep and scores.dtype == self.dtype else work[0]
        if keep and self._scales_late:
            chunk.fill_targets(moved, number, start, -math.inf)
            largest = torch.maximum(chunk.largest, moved.amax(0).mul_(self.scale))
            weights = torch.add(-largest, moved, alpha=self.scale, out=out).exp_()  # type: ignore[arg-type]
        else:
            logits = self._logits(moved, start, out)
            self._ask(logits, chunk, number, start)
            chunk.fill_targets(logits, number, start, -math.inf)
            largest = torch.maximum(chunk.largest, logits.amax(0))
            weights = logits.sub_(largest).exp_()
        chunk.total.mul_((chunk.largest - largest).exp_()).add_(weights.sum(0))
        chunk.largest = largest
        if keep:
            chunk.peaks.append(largest)
            if slope is not None:
                weights.mul_(slope)
            if weights is not scores:
                scores.copy_(weights)

    def nll(self, chunk: Chunk, own_logits: Tensor) -> Tensor:
        """Return the (b,) lse - z_y: the logarithm of the sum of all exponentials, less the target's logit."""
        above = chunk.largest + self._shift() - own_logits
        confident = torch.log1p(chunk.total * above.clamp_max(0).exp())
        other = above + (chunk.total + (-above).clamp_max(0).exp()).log()
        return torch.where(above > 0, other, confident)

    def target_dot(self, chunk: Chunk) -> Tensor:
        """Return the (b,) sums over d times logit of all competitors."""
        if self.terms.plain:
            return chunk.target_dot
        return chunk.target_dot + self._shift() * (self.terms.mass - self.terms.own)[chunk.rows]

    def gradient_of_weights(
        self,
        weights: Tensor,
        chunk: Chunk,
        number: int,
        start: int,
        lse: Tensor,
        mass: Tensor,
        row_weight: Tensor,
    ) -> Tensor | None:
        """Take the kept weights of a block to dL/d score but for the factor s, or to less than that.

        They lack one factor a row. To multiply a row of every block takes longer than to multiply its embedding:
        where nothing else is to be done, the weights stay as they are, and the factor is left to the products.

        Args:
            weights: (c, b).
            chunk: of rows.
            number: of the block.
            start: its first class.
            lse: (b,).
            mass: (b,) row_weight times Q.
            row_weight: (b,) what each row counts in the loss.

        Returns:
            The (b,) factors still to be multiplied, or None.
        """
        here = slice(start, start + len(weights))
        factor = (chunk.peaks[number] + self._shift() - lse).exp_().mul_(mass)
        if self.terms.plain:
            if self.grad_offset is not None:
                self.grad_offset[here] += (weights @ factor).to(self.grad_offset.dtype)
            return factor
        weights.mul_(factor)
        weights.sub_(
            row_weight * self.terms.competitor_targets(chunk.rows, self._of_all(start, len(weights)))
        )
        chunk.fill_targets(weights, number, start, 0.0)
        if self.grad_offset is not None:
            self.grad_offset[here] += weights.sum(1, dtype=self.grad_offset.dtype)
        return None

    def gradient(
        self,
        scores: Tensor,
        chunk: Chunk,
        number: int,
        start: int,
        work: Tensor,
        lse: Tensor,
        mass: Tensor,
        row_weight: Tensor,
    ) -> None:
        """Turn the (c K, b) scores of a block, in place, into dL/d score but for the factor s; see above."""
        cosines, winners = self._cosines(scores, chunk, number, start, work)
        leaf, result = cosines, cosines
        if self.margin.custom is not None:
            with torch.enable_grad():
                leaf = cosines.detach().requires_grad_()
                result = self._custom(leaf.clone(), chunk, start)  # theirs: to keep, or to write in
        moved, slope = self._move(result.detach(), chunk, start, work)
        pull = self._logits(moved, start, out=work[0]).sub_(lse - self._shift()).exp_().mul_(mass)
        if not self.terms.plain:
            pull.sub_(self.terms.competitor_targets(chunk.rows, self._of_all(start, len(pull))) * row_weight)
        chunk.fill_targets(pull, number, start, 0.0)
        if self.grad_offset is not None:
            self.grad_offset[start : start + len(pull)] += pull.sum(1, dtype=self.grad_offset.dtype)
        if self.grad_scale is not None:
            self.grad_scale += (pull * (moved + self.margin.competitor_shift)).sum()
        if slope is not None:
            pull.mul_(slope)
        if self.margin.custom is not None:
            pull = self._back_through_custom(leaf, result, pull)
        if winners is None:
            scores.copy_(pull)
        else:
            scores.view(len(pull), self.sub_centers, -1).zero_().scatter_(
                1, winners, pull[:, None].to(scores.dtype)
            )

    @property
    def _scales_late(self) -> bool:
        """Whether the scale can be multiplied in one go with the subtraction of the largest."""
        return self.terms.plain and self.offset is None and isinstance(self.scale, float) and self.scale > 0

    def _ask(self, logits: Tensor, chunk: Chunk, number: int, start: int) -> None:
        """Add what the target distribution asks of the competitors times their logits."""
        if self.terms.plain:
            return
        chunk.fill_targets(logits, number, start, 0.0)
        targets = self.terms.competitor_targets(chunk.rows, self._of_all(start, len(logits)))
        if isinstance(targets, float):
            chunk.target_dot += logits.sum(0) * targets
        elif targets.shape[1] == 1:
            chunk.target_dot += targets[:, 0] @ logits
        else:
            chunk.target_dot += targets.mul_(logits).sum(0)

    def _back_through_custom(self, leaf: Tensor, result: Tensor, pull: Tensor) -> Tensor:
        """Return the pull on the scores, given that on what the user's margin made of them."""
        if not result.requires_grad:
            return torch.zeros_like(pull)
        first, *parts = torch.autograd.grad(
            result, [leaf, *self.learned], pull, retain_graph=True, allow_unused=True
        )
        for k, part in enumerate(parts):
            if part is not None:  # no product follows that would bring the scale
                so_far = self.grad_learned[k]
                self.grad_learned[k] = part * self.scale if so_far is None else so_far + part * self.scale
        return torch.zeros_like(pull) if first is None else first

    def divide_sums(self, boost: float | Tensor) -> None:
        """Divide the gradients that were added up here by the boost that all pulls had."""
        for total in (self.grad_scale, self.grad_offset, *self.grad_learned):
            if total is not None and isinstance(boost, Tensor):
                total.div_(boost)

    def _cosines(
        self, scores: Tensor, chunk: Chunk, number: int, start: int, work: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the (c, b) scores of the classes in the working dtype, and which sub-centre had the best."""
        winners = None
        if self.sub_centers > 1:
            best = scores.view(-1, self.sub_centers, scores.shape[1]).max(dim=1, keepdim=True)
            cosines, winners = best.values[:, 0].to(self.dtype), best.indices
        else:
            cosines = scores if scores.dtype == self.dtype else work[1].copy_(scores)
        if (
            self.pairwise is not None
        ):  # the targets' own, often near 1, would take the long way there for nothing
            chunk.fill_targets(cosines, number, start, 0.0)
        return cosines, winners

    def _custom(self, cosines: Tensor, chunk: Chunk, start: int) -> Tensor:
        """Apply the user's margin, which counts rows first."""
        if self.margin.custom is None:
            return cosines
        classes = torch.arange(len(cosines), device=cosines.device) + (self.classes.start + start)
        labels = chunk.labels[:, None] + self.classes.start
        return apply_custom(self.margin.custom, cosines.t(), labels, classes).to(self.dtype).t()

    def _move(self, cosines: Tensor, chunk: Chunk, start: int, work: Tensor) -> tuple[Tensor, Tensor | None]:
        """Apply the pairwise margin; return the moved cosines and their slopes, None where these are 1."""
        if self.pairwise is None or chunk.angles is None:
            return cosines, None
        here = self.pairwise.c[start : start + len(cosines)]
        return self.pairwise.move(cosines, chunk.angles, here, work[-4:]) or (cosines, None)

    def _logits(self, moved: Tensor, start: int, out: Tensor) -> Tensor:
        """Write s times the moved cosines plus the offsets."""
        torch.mul(moved, self.scale, out=out)
        if self.offset is not None:
            out.add_(self.offset[start : start + len(out), None])
        return out

    def _shift(self) -> float | Tensor:
        """Return what the constant margin of the competitors adds to all of their logits."""
        return self.scale * self.margin.competitor_shift

    def _of_all(self, start: int, length: int) -> slice:
        return slice(self.classes.start + start, self.classes.start + start + length)
