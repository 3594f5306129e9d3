"""What the loss asks of a row's own class: its score as the margin leaves it, its loss, the pull on its logit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.functional.cosine import unit
from bisector.functional.margins import CustomMargin, Margin, apply_custom
from bisector.functional.reference import LossSpec
from bisector.functional.row_losses import RowLoss

# Rows whose own scores are computed together, at most; a user's margin takes a matrix of rows x rows.
GROUP = 1024
CUSTOM_GROUP = 64


@dataclass(frozen=True)
class Shard:
    """The run of classes that this process holds: all of them here; `bisector.engine.sharded` has the one for many.

    Attributes:
        first: the class of the first row of this process's weights.
        classes: C, of all processes.
        widest: the most classes that any process holds; all must cut the rows into the same chunks.
    """

    first: int
    classes: int
    widest: int

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, the same on all."""
        return values

    def max(self, values: Tensor) -> Tensor:
        """Return the maximum over the processes, the same on all."""
        return values

    def places(self, labels: Tensor, held: int) -> tuple[Tensor, Tensor]:
        """Return where the labels' classes are among the `held` of this process, and whether they are there."""
        places = labels - self.first
        return places.clamp(0, max(held - 1, 0)), (places >= 0) & (places < held)


@dataclass(frozen=True, eq=False)
class OwnScores:
    """The (B,) scores of the rows' own classes, with the graph of what the margin makes of them.

    The rule of the target is any torch function of B numbers: it is called once, on all of them, and
    differentiated by autograd.

    Attributes:
        cosines: the scores (cosines or inner products), before any margin.
        leaf: the same after the user's margin; where the rule's graph begins.
        moved: what the target's rule makes of the leaf.
        labels: (B,) in 0..C-1.
        custom: the user's margin, or None.
    """

    cosines: Tensor
    leaf: Tensor
    moved: Tensor
    labels: Tensor
    custom: CustomMargin | None

    @classmethod
    def of(
        cls, cosines: Tensor, labels: Tensor, margin: Margin, lengths: tuple[Tensor, ...], learning: bool
    ) -> "OwnScores":
        """Apply the margin's rules to the scores."""
        leaf = cosines
        if margin.custom is not None:
            with torch.no_grad():
                parts = [_custom_on_own(margin.custom, *both) for both in _groups(cosines, labels)]
            leaf = torch.cat(parts)
        leaf = leaf.detach().requires_grad_(learning)
        moved = leaf
        if margin.target is not None:
            moved = margin.target(leaf.clone(), labels, *lengths).to(leaf.dtype)
        return cls(cosines, leaf, moved, labels, margin.custom)

    def backward(
        self,
        pull: Tensor,  # (B,) by `moved`
        learned: list[Tensor],
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Return the (B,) gradient by the scores, and that of each learned number inside the margin."""
        first, parts = _gradients(self.moved, self.leaf, learned, pull)
        if self.custom is None:
            return first, parts
        by_scores = []
        for cosines, labels, group in _groups(self.cosines, self.labels, first):
            with torch.enable_grad():
                leaf = cosines.detach().requires_grad_()
                result = _custom_on_own(self.custom, leaf, labels)
                found, more = _gradients(result, leaf, learned, group)
            by_scores.append(found)
            parts = [added(a, b) for a, b in zip(parts, more, strict=True)]
        return torch.cat(by_scores), parts


def own_scores(
    x: Tensor,  # (B, D)
    weight: Tensor,  # (C', D) or (C', K, D), the classes of this process
    labels: Tensor,  # (B,) in 0..C-1
    spec: LossSpec,
    shard: Shard,
    dtype: torch.dtype,
    scratch: int,
) -> Tensor:
    """Return the (B,) scores of the rows' own classes, computed in groups of rows that fit the bytes of scratch."""
    found = torch.zeros(len(x), dtype=dtype, device=x.device)
    size = max(1, min(GROUP, scratch // (4 * weight.shape[1:].numel() * dtype.itemsize)))
    for start in range(0, len(x) if len(weight) else 0, size):
        rows = slice(start, start + size)
        local, held = shard.places(labels[rows], len(weight))
        a, b = x[rows].to(dtype), weight.index_select(0, local).to(dtype)
        if spec.score == "cosine":
            a, b = unit(a), unit(b)
        scores = torch.linalg.vecdot(a if b.dim() == 2 else a[:, None], b)
        best = scores if b.dim() == 2 else scores.amax(1)
        found[rows] = torch.where(held, best, 0)
    return shard.sum(found)


def _groups(*vectors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(vector, CUSTOM_GROUP) for vector in vectors), strict=True)


def _custom_on_own(custom: CustomMargin, cosines: Tensor, labels: Tensor) -> Tensor:
    """Return what a user's margin, which takes rows x classes, makes of (n,) scores of the rows' own classes."""
    square = cosines[:, None].repeat(1, len(labels))
    return apply_custom(custom, square, labels[:, None], labels).to(cosines.dtype).diagonal()


def _gradients(
    result: Tensor, leaf: Tensor, learned: list[Tensor], pull: Tensor
) -> tuple[Tensor, list[Tensor | None]]:
    """Return the gradient by the leaf, and by what is learned, given that by the result."""
    if result is leaf or not result.requires_grad:  # no margin, or one that does not look at the scores
        return pull if result is leaf else torch.zeros_like(pull), [None] * len(learned)
    first, *parts = torch.autograd.grad(result, [leaf, *learned], pull, retain_graph=True, allow_unused=True)
    return torch.zeros_like(pull) if first is None else first, [*parts]


def added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients of which either may be missing."""
    return b if a is None else a if b is None else a + b


@dataclass(frozen=True, eq=False)
class RowTerms:
    r"""The row loss of a batch, taken apart so that it needs no matrix.

    With z the logits of a row, y its target and lse the logarithm of the sum of their exponentials,

    .. math::
        L = Q\,\mathrm{lse} - h\,z_y - \sum_{j \ne y} d_j z_j, \qquad
        \frac{\partial L}{\partial z_j} = Q\,p_j - d_j, \qquad
        \frac{\partial L}{\partial z_y} = Q\,p_y - h

    where d is what the target distribution asks of the competitors, times the class weights, h what it asks of
    the target, and Q the sum of all. For the loss without a logarithm, :math:`L = -w_y p_y`, both Q and h
    are :math:`w_y p_y` and d is 0.

    Attributes:
        row_loss: which.
        mass: (B,) Q.
        own: (B,) h.
        everyone: what each competitor is to have, times its class weight; 0 without smoothing.
        soft: (B, C) probabilities where the labels are such.
        class_weight: (C,) or None.
        row_weight: (B,) weight of each row in the reduction "mean" or "sum"; 0 for ignored rows.
        kept: (B,) 1, or 0 for ignored rows.
    """

    row_loss: RowLoss
    mass: Tensor
    own: Tensor
    everyone: float
    soft: Tensor | None
    class_weight: Tensor | None
    row_weight: Tensor
    kept: Tensor

    @classmethod
    def of(
        cls,
        spec: LossSpec,
        labels: Tensor,  # (B,) classes, or (B, C) probabilities
        target: Tensor,  # (B,) in 0..C-1
        kept: Tensor | None,  # (B,) bool
        num_classes: int,
        dtype: torch.dtype,
    ) -> "RowTerms":
        """Take the row loss apart."""
        given, row_loss = spec.class_weight, spec.row_loss
        class_weight = None if given is None else given.detach().to(target.device, dtype)
        ones = torch.ones(len(target), dtype=dtype, device=target.device)
        each = ones if class_weight is None else class_weight[target]
        everyone = row_loss.label_smoothing / num_classes + row_loss.added_target
        rest = 1 - row_loss.label_smoothing
        all_weights = float(num_classes) if class_weight is None else class_weight.sum()
        soft = labels.detach() if labels.dim() == 2 else None
        if soft is None:
            mass, own = rest * each + everyone * all_weights, (rest + everyone) * each
            counted = each
        else:
            wanted = soft.sum(1, dtype=dtype) if class_weight is None else _weighted_sum(soft, class_weight)
            mass = rest * wanted + everyone * all_weights
            own = (rest * soft.gather(1, target[:, None])[:, 0].to(dtype) + everyone) * each
            counted = ones
        keep = ones if kept is None else kept.to(dtype)
        total = (counted * keep).sum()
        row_weight = keep / torch.where(total > 0, total, math.inf) if spec.reduction == "mean" else keep
        return cls(row_loss, mass, own, everyone, soft, class_weight, row_weight, keep)

    @property
    def plain(self) -> bool:
        """Whether the competitors are to have nothing: d is 0."""
        return self.soft is None and not self.everyone

    def competitor_targets(
        self,
        rows: slice,
        classes: slice,  # of all C
    ) -> Tensor | float:
        """Return d for a block: (c, b), or (c, 1), or one number; the targets' own entries count for nothing."""
        weights = 1.0 if self.class_weight is None else self.class_weight[classes, None]
        if self.soft is None:
            return self.everyone * weights
        soft = self.soft[rows, classes].t().to(self.mass.dtype)
        return (soft * (1 - self.row_loss.label_smoothing)).add_(self.everyone).mul_(weights)

    def losses(
        self,
        nll: Tensor,  # (B,) lse - z_y
        own_logit: Tensor,  # (B,) z_y
        target_dot: Tensor,  # (B,) the sum over d_j z_j
    ) -> Tensor:
        """Return the (B,) losses L, 0 for ignored rows; of a confident row the nll keeps all digits."""
        if self.row_loss.kind == "probability":
            rows = -self.own * (-nll).exp()
        elif self.plain:
            rows = self.mass * nll
        else:
            rows = self.mass * nll + (self.mass - self.own) * own_logit - target_dot
        return torch.where(self.kept > 0, rows, 0)

    def total_pull(self, nll: Tensor, rows: slice) -> Tensor:
        """Return the (b,) Q of some rows, given their (b,) lse - z_y."""
        return self.own[rows] * (-nll).exp() if self.row_loss.kind == "probability" else self.mass[rows]

    def own_pull(self, nll: Tensor, rows: slice) -> Tensor:
        """Return the (b,) derivatives of L by z_y: Q p_y - h, without the difference of nearly equal numbers."""
        pull = self.total_pull(nll, rows) * torch.expm1(-nll)
        return pull if self.row_loss.kind == "probability" else pull + (self.mass - self.own)[rows]


def _weighted_sum(
    soft: Tensor,  # (B, C)
    weights: Tensor,  # (C,)
    block: int = 4096,
) -> Tensor:
    """Return soft @ weights in the weights' dtype without a copy of the whole."""
    total = weights.new_zeros(len(soft))
    for start in range(0, len(weights), block):
        here = slice(start, start + block)
        total += soft[:, here].to(weights.dtype) @ weights[here]
    return total
