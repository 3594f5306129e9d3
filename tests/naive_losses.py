"""Margin losses as plainly as they can be written: one row, one class, one number at a time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TargetFormula = Callable[[Tensor, int], Tensor]  # (cos_y, y) -> the target's score
CompetitorFormula = Callable[[Tensor, int, int], Tensor]  # (cos_j, y, j) -> the competitor's


def psi(phi: Tensor) -> Tensor:
    k = math.floor(phi.item() / math.pi)
    return (-1) ** k * torch.cos(phi) - 2 * k


def score(x: Tensor, w: Tensor, kind: str) -> Tensor:
    """x and w are vectors; w may also be (K, D), of which the best counts."""
    if w.dim() == 2:
        return max((score(x, w[k], kind) for k in range(len(w))), key=Tensor.item)
    product = (x * w).sum()
    return product if kind == "dot" else product / ((x * x).sum().sqrt() * (w * w).sum().sqrt())


@dataclass(frozen=True)
class NaiveLoss:
    kind: str = "cosine"
    target: TargetFormula = lambda cos, y: cos
    competitor: CompetitorFormula = lambda cos, y, j: cos
    row: str = "log"
    smoothing: float = 0.0
    added_target: float = 0.0
    offset: Sequence[float] | None = None
    by_row: Callable[[Tensor], TargetFormula] | None = None  # the target's formula, which the row's x chooses

    def logits(self, x: Tensor, weight: Tensor, y: int, scale: Tensor | float, bias: Tensor | None) -> Tensor:
        z, target = [], self.target if self.by_row is None else self.by_row(x)
        for j in range(len(weight)):
            s = score(x, weight[j], self.kind)
            z_j = scale * (target(s, y) if j == y else self.competitor(s, y, j))
            z_j = z_j if bias is None else z_j + bias[j]
            z.append(z_j if self.offset is None else z_j + self.offset[j])
        return torch.stack(z)

    def rows(
        self,
        embeddings: Tensor,
        weight: Tensor,
        labels: Tensor,
        scale: Tensor | float = 1.0,
        bias: Tensor | None = None,
    ) -> Tensor:
        losses = []
        for x, label in zip(embeddings, labels.tolist(), strict=True):
            soft = isinstance(label, list)
            y = max(range(len(label)), key=label.__getitem__) if soft else label
            z = self.logits(x, weight, y, scale, bias)
            log_sum = z.max() + (z - z.max()).exp().sum().log()
            if self.row == "probability":
                losses.append(-(z[y] - log_sum).exp())
                continue
            loss = torch.zeros_like(log_sum)
            for j in range(len(weight)):
                q = label[j] if soft else float(j == y)
                q = (1 - self.smoothing) * q + self.smoothing / len(weight) + self.added_target
                loss = loss - q * (z[j] - log_sum)
            losses.append(loss)
        return torch.stack(losses)


def pairwise_formula(margins: Sequence[Sequence[float]], direction: str) -> CompetitorFormula:
    sign = 1 if direction == "relax" else -1
    return lambda cos, y, j: psi(torch.acos(cos) + sign * margins[y][j])


def information_margins(
    amounts: Sequence[float], normalize: str, gain: float = 1.0, max_margin: float | None = None
) -> list[list[float]]:
    """The IGAM poster's formula, without its rare guards."""
    C = len(amounts)
    unit = sum(amounts) if normalize == "sum" else sum(amounts) / C
    powers = [math.exp(a / (unit * math.sqrt(C))) for a in amounts]
    primed = [C * power / sum(powers) + 1 for power in powers]
    if normalize == "ratio":
        primed = [a / unit + 1 for a in amounts]
    margins = [[max(0.0, gain * math.log(a / b) / math.pi) for b in primed] for a in primed]
    if max_margin is not None:
        stretch = max_margin / max(max(row) for row in margins)
        margins = [[stretch * m for m in row] for row in margins]
    return margins
