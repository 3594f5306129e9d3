"""The competitors' logits, block by block: the sums that the loss needs, and its gradient by their scores."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from bisector.engine.angles import PairwiseBlocks
from bisector.engine.targets import RowTerms, added
from bisector.functional.margins import apply_custom
from bisector.functional.reference import LossSpec

# Logits are counted in units of log 2 here: powers of two take a quarter of the time of those of e.
LOG2_E = math.log2(math.e)

# A sum of exponentials above this says that the reference was too low; below it all products stay in range.
LARGEST_SUM = 1e26


class Block(NamedTuple):
    """A run of the classes that this process holds.

    Attributes:
        number: of the block.
        start: its first class, counted among those held here.
        stop: the class after its last.
        norms: (c K, 1) of the weights, infinite of those without direction; None if the products divide by them.
    """

    number: int
    start: int
    stop: int
    norms: Tensor | None


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk of rows on its way through the blocks of classes; the vectors are (b,) sums, added to in place.

    Attributes:
        rows: which of the batch.
        labels: their classes, counted from the first class that this process holds.
        reference: what is subtracted from the logits before their exponentials are taken, in units of log 2.
        total: the sum of exp(logit - reference) over the competitors so far.
        target_dot: the sum of d times logit so far.
        angles: (5, b) the pairwise margin's numbers for the rows' targets.
        places: on the CPU, for each block which entries are targets', and of which rows.
    """

    rows: slice
    labels: Tensor
    reference: Tensor
    total: Tensor
    target_dot: Tensor
    angles: Tensor | None
    places: list[tuple[Tensor, Tensor]] | None

    def fill_targets(self, matrix: Tensor, block: Block, values: float | Tensor) -> None:
        """Set the targets' entries of a (c, b) block to a number, or to the (b,) values of their rows."""
        if self.places is not None:  # few blocks have any, and on the CPU it costs nothing to know which
            flat, rows = self.places[block.number]
            if len(flat) and isinstance(values, Tensor):
                matrix.view(-1).index_copy_(0, flat, values[rows].to(matrix.dtype))
            elif len(flat):
                matrix.view(-1).index_fill_(0, flat, values)
            return
        place = self.labels - block.start
        inside = (place >= 0) & (place < len(matrix))
        place = place.clamp(0, len(matrix) - 1)[None]
        filled = torch.where(inside, values, matrix.gather(0, place))
        matrix.scatter_(0, place, filled.to(matrix.dtype))


class Pull(NamedTuple):
    """What makes a gradient of a chunk's scores: (b,) each.

    Attributes:
        lse: logarithm of the sum of all exponentials.
        mass: Q times the row's weight.
        row_weight: what the row counts in the loss.
        own: the gradient by the score of the row's own class; divided by the factor, where that comes later.
        factor: what takes exp(logit - reference) to the mass times the probability.
    """

    lse: Tensor
    mass: Tensor
    row_weight: Tensor
    own: Tensor
    factor: Tensor


class Competitors:
    r"""What becomes of a block of scores, classes first.

    .. math:: z_{ji} = s\,(\psi(\theta_{ji} \pm m_{y_i j}) + \mathrm{shift}) + b_j

    `add` takes the scores to the sums that the loss needs; it can leave in their place the weights
    :math:`e^{z - \mathrm{reference}}\,\partial\psi/\partial\cos`, which are the gradient but for one factor a row.
    `gradient` turns scores into their gradient in place, and `gradient_of_weights` turns such weights.

    Args:
        spec: of the loss, with the offsets of the classes held here.
        terms: of the row loss.
        classes: which of all classes are held here.
        sub_centers: K.
        like: a tensor in whose place and dtype (float32 or better) all of it is done.
        learned: what is learned inside a user's margin.
        wants_scale: whether a gradient of the scale is added up.
        grad_offset: (C',) where the gradient of the offsets is added up, or None.
    """

    takes_raw_weights = True  # such as are not of length 1, where it costs less to divide the scores

    def __init__(
        self,
        spec: LossSpec,
        terms: RowTerms,
        classes: slice,
        sub_centers: int,
        like: Tensor,
        learned: list[Tensor],
        wants_scale: bool,
        grad_offset: Tensor | None,
    ) -> None:
        self.margin, self.terms, self.classes, self.sub_centers = spec.margin, terms, classes, sub_centers
        scale = spec.scale
        self.scale = float(scale) if like.device.type == "cpu" or not isinstance(scale, Tensor) else scale
        self.shift = self.scale * self.margin.competitor_shift  # what a constant margin adds to all logits
        self.offset = None if spec.offset is None else spec.offset.detach().to(like)
        angles = self.margin.pairwise
        self.pairwise = None if angles is None else PairwiseBlocks(angles, classes, like)
        self.dtype, self.learned = like.dtype, learned
        self.grad_scale = like.new_zeros(()) if wants_scale else None
        self.grad_offset = grad_offset
        self.grad_learned: list[Tensor | None] = [None] * len(learned)
        self._ones = like.new_ones(classes.stop - classes.start)

    def keeps_weights(self, scores: torch.dtype) -> bool:
        """Return whether the weights say all that the gradient needs, so that no exponential is taken twice.

        In half precision only if nothing is done to them later, and where the missing factor keeps its range.
        """
        easy = self.margin.custom is None and self.sub_centers == 1 and self.terms.soft is None
        final = self.terms.plain and self.grad_offset is None
        fits = scores == self.dtype or (final and scores != torch.float16)
        return easy and fits and self.grad_scale is None and (final or self.pairwise is None)

    def takes_raw_scores(self, weights_kept: bool) -> bool:
        """Return whether `add` divides by the norms of the weights itself, in one go with the scale."""
        return weights_kept and self.pairwise is None

    def buffers(self, scores: torch.dtype, keeping: bool) -> int:
        """Return how many (c, b) buffers a block needs beside its scores, for the pass that needs most."""
        in_place = scores == self.dtype and keeping and self.keeps_weights(scores)
        converted = scores != self.dtype and self.sub_centers == 1
        angles = 0 if self.pairwise is None else self.pairwise.scratch
        return (0 if in_place else 1 + converted) + angles

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
            own_logits: (b,) of the targets, the first reference.
            starts: the first class of each block, and the end of the last, counted among those held here.
        """
        local, places = labels - self.classes.start, None
        if labels.device.type == "cpu":
            ordered, by_label = local.sort()
            edges = torch.searchsorted(ordered, ordered.new_tensor(starts)).tolist()
            width = starts[1] if len(starts) > 1 else 1  # of all blocks but the last
            flat = (ordered % width) * len(labels) + by_label
            places = [(flat[a:b], by_label[a:b]) for a, b in pairwise(edges)]
        reference = (own_logits - self.shift) * LOG2_E
        total, target_dot = torch.zeros_like(reference), torch.zeros_like(reference)
        angles = None if self.pairwise is None else self.pairwise.r[:, labels]
        return Chunk(rows, local, reference, total, target_dot, angles, places)

    def add(self, scores: Tensor, work: Tensor, chunk: Chunk, block: Block, keep: bool) -> None:
        """Add a block to the chunk's sums.

        The first block raises the reference to its largest logit; the others are compared with that, unseen.

        Args:
            scores: (c K, b), left as they are, or, with `keep`, turned into weights.
            work: (`buffers`, c, b).
            chunk: of rows.
            block: of classes.
            keep: whether the weights are wanted.
        """
        logits, slope = self._logits(scores, chunk, block, work, keep)
        if block.number == 0:
            top = logits.amax(0).clamp_min_(0)
            chunk.reference.add_(top)
            logits.sub_(top)
        weights = logits.exp2_()
        chunk.total.addmv_(weights.t(), self._ones[: len(weights)])
        if keep:
            if slope is not None:
                weights.mul_(slope)
            if weights is not scores:
                scores.copy_(weights)

    def must_restart(self, chunk: Chunk) -> bool:
        """Return whether some logit lies so far above the reference that its exponential left its range."""
        return bool((chunk.total > LARGEST_SUM).any())

    def restart(self, chunk: Chunk) -> None:
        """Empty the sums."""
        chunk.total.zero_()
        chunk.target_dot.zero_()

    def raise_reference(self, scores: Tensor, work: Tensor, chunk: Chunk, block: Block, keep: bool) -> None:
        """Let the reference be no less than the logits of a block; the arguments are those of `add`."""
        logits, _ = self._logits(scores, chunk, block, work, keep)
        chunk.reference.add_(logits.amax(0).clamp_min_(0))

    def nll(self, reference: Tensor, total: Tensor, own_logits: Tensor) -> Tensor:
        """Return the (b,) lse - z_y: the logarithm of the sum of all exponentials, less the target's logit."""
        above = reference / LOG2_E + self.shift - own_logits
        exact = torch.log1p(total * above.clamp_max(20).exp())  # to the last digit also of a confident row
        return torch.where(above > 20, above + (total + (-above).clamp_max(0).exp()).log(), exact)

    def target_dot(self, chunk: Chunk) -> Tensor:
        """Return the (b,) sums over d times logit of the competitors here, but for the constant margin."""
        return chunk.target_dot / LOG2_E

    def gradient_of_weights(self, weights: Tensor, chunk: Chunk, block: Block, pull: Pull) -> None:
        """Take the kept weights of a block to dL/d score but for the scale, or to that divided by the factors.

        To multiply a row of every block takes longer than to multiply its embedding: where nothing else is to be
        done to the weights, the factor is left to the products.
        """
        plain, factor = self.terms.plain, pull.factor
        if not plain:
            weights.mul_(factor)
            weights.sub_(pull.row_weight * self._targets(chunk, block))
            chunk.fill_targets(weights, block, 0.0)
        if self.grad_offset is not None:
            sums = weights @ factor if plain else weights.sum(1)
            self.grad_offset[block.start : block.stop] += sums.to(self.grad_offset.dtype)
        chunk.fill_targets(weights, block, pull.own)
        if block.norms is not None:
            weights.mul_(1 / block.norms)

    def gradient(self, scores: Tensor, work: Tensor, chunk: Chunk, block: Block, pull: Pull) -> None:
        """Turn the (c K, b) cosines of a block, in place, into dL/d score but for the scale."""
        cosines, winners = self._cosines(scores, chunk, block, work)
        leaf, result = cosines, cosines
        if self.margin.custom is not None:
            with torch.enable_grad():
                leaf = cosines.detach().requires_grad_()
                result = self._custom(leaf.clone(), chunk, block)  # theirs: to keep, or to write in
        moved, slope = self._move(result.detach(), chunk, block, work)
        logits = self._scaled(moved, (self.shift - pull.lse) * LOG2_E, self.scale * LOG2_E, block, work[0])
        slopes = logits.exp2_().mul_(pull.mass)
        if not self.terms.plain:
            slopes.sub_(pull.row_weight * self._targets(chunk, block))
        chunk.fill_targets(slopes, block, 0.0)
        if self.grad_offset is not None:
            self.grad_offset[block.start : block.stop] += slopes.sum(1, dtype=self.grad_offset.dtype)
        if self.grad_scale is not None:
            self.grad_scale += (slopes * (moved + self.margin.competitor_shift)).sum()
        if slope is not None:
            slopes.mul_(slope)
        if self.margin.custom is not None:
            slopes = self._back_through_custom(leaf, result, slopes)
        chunk.fill_targets(slopes, block, pull.own)
        if winners is None:
            scores.copy_(slopes)
        else:
            by_center = scores.view(len(slopes), self.sub_centers, -1).zero_()
            by_center.scatter_(1, winners, slopes[:, None].to(scores.dtype))
        if block.norms is not None:
            scores.mul_(1 / block.norms)

    def divide_sums(self, boost: Tensor) -> None:
        """Divide the gradients that were added up here by the boost that all pulls had."""
        for total in (self.grad_scale, self.grad_offset, *self.grad_learned):
            if total is not None:
                total.div_(boost)

    def _logits(
        self, scores: Tensor, chunk: Chunk, block: Block, work: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the (c, b) logits above the reference, the targets' -inf, and the slopes of the margin."""
        out = scores if keep and scores.dtype == self.dtype else work[0]
        scale: float | Tensor = self.scale * LOG2_E
        if block.norms is not None and self.takes_raw_scores(keep):
            scale = scale / block.norms
        cosines = self._cosines(scores, chunk, block, work)[0]
        if self.margin.custom is not None:
            with torch.no_grad():
                cosines = self._custom(cosines.clone(), chunk, block)  # the scores are needed again
        moved, slope = self._move(cosines, chunk, block, work)
        if self.terms.plain:
            logits = self._scaled(moved, -chunk.reference, scale, block, out)
        else:
            logits = self._scaled(moved, torch.zeros_like(chunk.reference), scale, block, out)
            chunk.fill_targets(logits, block, 0.0)
            self._add_target_dot(logits, chunk, block)
            logits.sub_(chunk.reference)
        chunk.fill_targets(logits, block, -math.inf)
        return logits, slope

    def _scaled(
        self, moved: Tensor, added: Tensor, scale: float | Tensor, block: Block, out: Tensor
    ) -> Tensor:
        """Write (b,) numbers plus the scale times the moved cosines plus the offsets."""
        if isinstance(scale, Tensor):
            torch.addcmul(added, moved, scale, out=out)
        else:
            torch.add(added, moved, alpha=scale, out=out)
        if self.offset is not None:
            out.add_(self.offset[block.start : block.stop, None], alpha=LOG2_E)
        return out

    def _targets(self, chunk: Chunk, block: Block) -> Tensor | float:
        """Return what the target distribution asks of the block."""
        first = self.classes.start
        return self.terms.competitor_targets(chunk.rows, slice(first + block.start, first + block.stop))

    def _add_target_dot(self, logits: Tensor, chunk: Chunk, block: Block) -> None:
        """Add what the target distribution asks of the competitors times their logits."""
        targets = self._targets(chunk, block)
        if isinstance(targets, float):
            chunk.target_dot.add_(logits.sum(0), alpha=targets)
        elif targets.shape[1] == 1:
            chunk.target_dot.addmv_(logits.t(), targets[:, 0])
        else:
            chunk.target_dot.add_(targets.mul_(logits).sum(0))

    def _back_through_custom(self, leaf: Tensor, result: Tensor, pull: Tensor) -> Tensor:
        """Return the gradient by the scores, given that by what the user's margin made of them."""
        if not result.requires_grad:
            return torch.zeros_like(pull)
        first, *parts = torch.autograd.grad(
            result, [leaf, *self.learned], pull, retain_graph=True, allow_unused=True
        )
        self.grad_learned = [added(a, b) for a, b in zip(self.grad_learned, parts, strict=True)]
        return torch.zeros_like(pull) if first is None else first.contiguous()

    def _cosines(
        self, scores: Tensor, chunk: Chunk, block: Block, work: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the (c, b) scores of the classes in the working dtype, and which sub-centre had the best."""
        winners = None
        if self.sub_centers > 1:
            best = scores.view(-1, self.sub_centers, scores.shape[1]).max(dim=1, keepdim=True)
            cosines, winners = best.values[:, 0].to(self.dtype), best.indices
        else:
            cosines = scores if scores.dtype == self.dtype else work[1].copy_(scores)
        if self.pairwise is not None:  # the targets', often near 1, would take the long way there for nothing
            chunk.fill_targets(cosines, block, 0.0)
        return cosines, winners

    def _custom(self, cosines: Tensor, chunk: Chunk, block: Block) -> Tensor:
        """Apply the user's margin, which counts rows first."""
        assert self.margin.custom is not None
        first = self.classes.start
        classes = torch.arange(first + block.start, first + block.stop, device=cosines.device)
        labels = chunk.labels[:, None] + first
        return apply_custom(self.margin.custom, cosines.t(), labels, classes).to(self.dtype).t()

    def _move(
        self, cosines: Tensor, chunk: Chunk, block: Block, work: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Apply the pairwise margin; return the moved cosines and their slopes, None where these are 1."""
        if self.pairwise is None or chunk.angles is None:
            return cosines, None
        here = self.pairwise.c[:, block.start : block.stop]
        return self.pairwise.move(cosines, chunk.angles, here, work[-4:]) or (cosines, None)
