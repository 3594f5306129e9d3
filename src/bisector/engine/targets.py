"""The rows' own classes: their scores, what the margin does to them, and the gradient that comes of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.engine.placement import Shard
from bisector.functional.cosine import unit
from bisector.functional.margins import Margin, apply_custom
from bisector.functional.scores import Score

# Rows whose targets are worked on together, at most; with a user's margin fewer, since it takes a matrix.
GROUP = 1024
CUSTOM_GROUP = 64

# Copies of a row's embedding and its class's weights that autograd keeps at a time.
COPIES = 12


@dataclass(frozen=True, eq=False)
class Targets:
    """The B pairs of a row and its class, which the engine treats apart from the B x (C - 1) competitors.

    The rule of the target is any torch function of B numbers, so it is called on all of them at once and
    differentiated by autograd; only the products behind the scores are done in groups of rows.

    Attributes:
        x: (B, D) embeddings.
        weight: (C', D) or (C', K, D), the classes of this process.
        labels: (B,) in 0..C-1.
        shard: which classes these are.
        margin: what is done to the score.
        score: cosine or dot.
        dtype: float32 or better, in which all of it is done.
        scratch: bytes that may be used.
    """

    x: Tensor
    weight: Tensor
    labels: Tensor
    shard: Shard
    margin: Margin
    score: Score
    dtype: torch.dtype
    scratch: int

    @staticmethod
    def bytes_for_all(x: Tensor, weight: Tensor, dtype: torch.dtype) -> int:
        """Return the bytes with which all rows can be worked on at once."""
        return COPIES * len(x) * weight.shape[1:].numel() * dtype.itemsize

    def scores(self) -> Tensor:
        """Return the (B,) scores of the rows' own classes, after the user's margin, before the target's rule."""
        found = torch.zeros(len(self.x), dtype=self.dtype, device=self.x.device)
        for rows, local, held in self._groups():
            found[rows] = torch.where(held, self._group_scores(self.x[rows], self.weight[local], rows), 0)
        return self.shard.sum(found)

    def offsets(
        self,
        offset: Tensor,  # (C',)
    ) -> Tensor:
        """Return the (B,) offsets of the rows' own classes."""
        if not len(self.weight):
            return self.shard.sum(torch.zeros(len(self.labels), dtype=self.dtype, device=self.x.device))
        local, held = self._place(self.labels)
        return self.shard.sum(torch.where(held, offset[local].to(self.dtype), 0))

    def moved(
        self,
        scores: Tensor,  # (B,)
    ) -> Tensor:
        """Return the (B,) scores as the target's rule leaves them."""
        return (
            scores if self.margin.target is None else self.margin.target(scores, self.labels).to(self.dtype)
        )

    def add_gradient(
        self,
        pull: Tensor,  # (B,) dL/d score
        grad_x: Tensor | None,  # (B, D)
        grad_weight: Tensor | None,  # as weight
        learned: list[Tensor],
    ) -> list[Tensor | None]:
        """Add the targets' part to the gradients; return that of the learned numbers in a user's margin."""
        sums: list[Tensor | None] = [None] * len(learned)
        for rows, local, held in self._groups():
            with torch.enable_grad():
                x = self.x[rows].detach().requires_grad_()
                w = self.weight[local].detach().requires_grad_()
                scores = self._group_scores(x, w, rows)
                pulled = torch.where(held, pull[rows], 0)
                if not scores.requires_grad:  # a user's margin that does not look at the scores
                    continue
                parts = torch.autograd.grad(
                    scores, [x, w, *learned], pulled, retain_graph=True, allow_unused=True
                )
            if grad_x is not None and parts[0] is not None:
                grad_x[rows] += parts[0]
            if grad_weight is not None and parts[1] is not None:
                grad_weight.index_add_(0, local, parts[1].to(grad_weight.dtype))
            for k, part in enumerate(parts[2:]):
                so_far = sums[k]
                sums[k] = so_far if part is None else part if so_far is None else so_far + part
        return sums

    def add_offset_gradient(self, pull: Tensor, grad_offset: Tensor) -> None:
        """Add the (B,) pulls on the targets' logits to the gradient of the (C',) offsets."""
        if not len(self.weight):
            return
        local, held = self._place(self.labels)
        grad_offset.index_add_(0, local, torch.where(held, pull, 0).to(grad_offset.dtype))

    def _groups(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield groups of rows: which, the rows of `weight` that are their classes, whether they are held here."""
        if not len(self.weight):
            return
        fit = self.scratch // (COPIES * self.weight.shape[1:].numel() * self.dtype.itemsize)
        size = max(1, min(fit, CUSTOM_GROUP if self.margin.custom is not None else GROUP))
        for start in range(0, len(self.x), size):
            rows = slice(start, start + size)
            yield rows, *self._place(self.labels[rows])

    def _place(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        local = labels - self.shard.first
        held = (local >= 0) & (local < len(self.weight))
        return local.clamp(0, max(len(self.weight) - 1, 0)), held

    def _group_scores(self, x: Tensor, w: Tensor, rows: slice) -> Tensor:
        x, w = x.to(self.dtype), w.to(self.dtype)
        if self.score == "cosine":
            x, w = unit(x), unit(w)
        if self.margin.custom is None:
            each = (x if w.dim() == 2 else x[:, None]) * w
            scores = each.sum(-1)
            return scores if w.dim() == 2 else scores.max(dim=1).values
        scores = x @ w.flatten(0, -2).t()
        scores = scores if w.dim() == 2 else scores.view(len(x), len(x), -1).max(dim=2).values
        labels = self.labels[rows]
        return apply_custom(self.margin.custom, scores, labels[:, None], labels).to(self.dtype).diagonal()
