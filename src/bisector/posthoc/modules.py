"""Adjustments as PyTorch modules of plain tensor operations, to be exported with the network."""

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from bisector.information.geometry import Factor, Factors

_CELLS = 2**16  # numbers that a block of classes makes of one row


class AdjustmentModule(nn.Module):
    """What an adjustment does to scores, as a module that holds buffers alone.

    `forward(scores, embeddings)` gives what `BaseAdjustment.apply` gives, in the dtype of the buffers, for any
    number of rows and without looking at their values: `torch.jit.trace`, `torch.export`, `torch.onnx.export` and
    `torch.compile` take it.

    Args:
        kind: what the scores are: "logits" or "probabilities".
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def adjusted_logits(
        self,
        logits: Tensor,  # (N, C)
        embeddings: Tensor | None,  # (N, D)
    ) -> Tensor:
        """Return the (N, C) logits after."""
        raise NotImplementedError

    def forward(
        self,
        scores: Tensor,  # (N, C)
        embeddings: Tensor | None = None,  # (N, D)
    ) -> Tensor:
        """Return the (N, C) adjusted scores."""
        own = next(self.buffers()).dtype
        embeddings = None if embeddings is None else embeddings.to(own)
        if self.kind == "logits":
            return self.adjusted_logits(scores.to(own), embeddings)
        given = torch.promote_types(scores.dtype, torch.float32)
        least = max(torch.finfo(kind).tiny for kind in (own, given))
        logits = scores.to(own).clamp_min(least).log()
        return self.adjusted_logits(logits, embeddings).softmax(1)


class OffsetModule(AdjustmentModule):
    """An offset for each class and a number that the logits are multiplied by; embeddings are not looked at."""

    offsets: Tensor
    factor: Tensor

    def __init__(self, offsets: Tensor, factor: float, kind: str) -> None:
        super().__init__(kind)
        self.register_buffer("offsets", offsets.double())
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float64))

    def adjusted_logits(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        """Return the (N, C) logits after."""
        return logits * self.factor + self.offsets


class LayerModule(AdjustmentModule):
    """A linear layer over the embeddings in the place of the scores, which are not looked at."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, scale: str, kind: str) -> None:
        super().__init__(kind)
        self.scale = scale
        self.register_buffer("weight", weight.double())
        self.register_buffer("bias", bias.double())

    def adjusted_logits(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        """Return the (N, C) logits of the layer."""
        assert embeddings is not None
        return _on_scale(embeddings, self.scale) @ self.weight.T + self.bias


class GeometryModule(AdjustmentModule):
    """A decision over logits and densities: see `GeometryAdjustment`.

    Distances to all classes are computed, in blocks of classes, though of each row only k count: so the graph is
    the same for all rows. They take C D^2 multiplications a row, or n D for a class of n < D rows.

    Args:
        factors: of the geometry.
        constant: (C,) what every class gets, whatever the row.
        layer: (C, D) a linear layer over the embeddings whose logits are added, if any.
        a: what the logits count for.
        b: what the evidence counts for.
        dof: of the evidence, as a part of D.
        k: of each row only the k classes of the highest logits are looked at; None: all.
        scale: of the embeddings, "raw" or "unit".
        kind: what the scores are.
    """

    constant: Tensor
    layer: Tensor | None
    theta: Tensor
    centre: Tensor
    whiten: Tensor
    place: Tensor
    known: Tensor

    def __init__(
        self,
        factors: Factors,
        constant: Tensor,
        layer: Tensor | None,
        a: float,
        b: float,
        dof: float,
        k: int | None,
        scale: str,
        kind: str,
    ) -> None:
        super().__init__(kind)
        classes = len(constant)
        self.dim, self.dof, self.scale = len(factors.centre), dof, scale
        self.k = k if k is not None and k < classes else None
        blocks = list(_blocks(factors.of_class))
        self.blocks = nn.ModuleList(_Block(block) for block in blocks)
        order = [c for block in blocks for c in block]
        self.complete = len(order) == classes
        place = torch.full((classes,), len(order))  # past the end: a column of zeros
        place[order] = torch.arange(len(order))
        self.register_buffer("constant", constant.double())
        self.register_buffer("layer", None if layer is None else layer.double())
        self.register_buffer("theta", torch.tensor([a, b], dtype=torch.float64))
        self.register_buffer("centre", factors.centre)
        self.register_buffer("whiten", factors.whiten)
        self.register_buffer("place", place)
        self.register_buffer("known", (place < len(order)).double())

    def adjusted_logits(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        """Return the (N, C) logits after."""
        assert embeddings is not None
        evidence, constant = self._evidence(embeddings), self.constant.expand_as(logits)
        if self.layer is not None:
            constant = constant + _on_scale(embeddings, self.scale) @ self.layer.T
        if self.k is None:
            return self._pooled(logits, evidence, self.known.expand_as(evidence), constant)
        top, classes = logits.topk(self.k, dim=1)
        found = self._pooled(
            top, evidence.gather(1, classes), self.known[classes], constant.gather(1, classes)
        )
        floor = found.amin(1, keepdim=True) - self.theta[0] * top[:, -1:]
        return (self.theta[0] * logits + floor - 1e-9).scatter(1, classes, found)

    def _pooled(self, logits: Tensor, evidence: Tensor, known: Tensor, constant: Tensor) -> Tensor:
        """Return the logits after; a class without rows takes the mean evidence of the others."""
        if not self.complete:
            mean = (evidence * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)
            evidence = torch.where(known > 0, evidence, mean)
        return self.theta[0] * logits + self.theta[1] * evidence + constant

    def _evidence(self, embeddings: Tensor) -> Tensor:
        """Return the (N, C) evidence, 0 for a class without rows."""
        white = (_on_scale(embeddings, self.scale) - self.centre) @ self.whiten
        found = [block(white) for block in self.blocks]
        found += [] if self.complete else [torch.zeros_like(white[:, :1])]
        squared = torch.cat(found, 1)[:, self.place]
        if self.dof == math.inf:
            return -squared / 2
        return -self.dim / 2 * torch.log1p(squared / (self.dof * self.dim))


class _Block(nn.Module):
    """Squared distances of whitened rows to some classes: |Q^T (x - m)|^2, or (|x - m|^2 - |Q^T (x - m)|^2) / a."""

    matrix: Tensor
    offset: Tensor
    means: Tensor
    divisor: Tensor

    def __init__(self, factors: Mapping[int, Factor]) -> None:
        super().__init__()
        means = torch.stack([factor.mean for factor in factors.values()])
        self.classes = len(means)
        self.width = max(factor.width for factor in factors.values())
        matrix = means.new_zeros(len(means), means.shape[1], self.width)
        for row, factor in zip(matrix, factors.values(), strict=True):
            if factor.matrix is not None:
                row[:, : factor.width] = factor.matrix
        self.low = any(factor.a for factor in factors.values())
        self.register_buffer("matrix", matrix.transpose(0, 1).flatten(1).contiguous())  # (D, P width)
        self.register_buffer("offset", torch.einsum("pd,pdk->pk", means, matrix).flatten())
        self.register_buffer("means", means if self.low else means[:0])
        self.register_buffer("divisor", means.new_tensor([factor.a or 1.0 for factor in factors.values()]))

    def forward(self, white: Tensor) -> Tensor:  # (N, D) -> (N, P)
        """Return the squared distances."""
        along = torch.zeros_like(white[:, :1])
        if self.width:
            projected = white @ self.matrix - self.offset
            along = projected.square().view(-1, self.classes, self.width).sum(2)
        if not self.low:
            return along
        whole = (white[:, None] - self.means).square().sum(2)
        return ((whole - along) / self.divisor).clamp_min(0)


def _blocks(factors: Mapping[int, Factor]) -> Iterator[dict[int, Factor]]:
    """Yield blocks of classes whose factors are of one form and of about one width, of so many numbers a row."""
    block: dict[int, Factor] = {}
    for c in _by_form(factors):
        own = factors[c]
        cells = (len(block) + 1) * (len(own.mean) if own.a else own.width)
        if block and (cells > _CELLS or bool(own.a) != bool(next(iter(block.values())).a)):
            yield block
            block = {}
        block[c] = own
    if block:
        yield block


def _by_form(factors: Mapping[int, Factor]) -> Iterable[int]:
    return sorted(factors, key=lambda c: (bool(factors[c].a), factors[c].width))


def _on_scale(embeddings: Tensor, scale: str) -> Tensor:
    """Return rows as they are, or of length sqrt(D); a zero row stays zero."""
    if scale == "raw":
        return embeddings
    tiny = torch.finfo(embeddings.dtype).tiny
    # Divided by its largest number first, a row's squares stay within the range.
    rows = embeddings / embeddings.abs().amax(1, keepdim=True).clamp_min(tiny)
    length = rows.square().sum(1, keepdim=True).sqrt()
    found: Tensor = rows * (embeddings.shape[1] ** 0.5 / length.clamp_min(tiny))
    return found
