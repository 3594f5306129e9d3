"""Scores: what a box's embedding scores in each class at inference, in a form that TorchScript and ONNX take."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bisector.functional.cosine import SHORTEST
from bisector.heads import CosineHead, Head


class Scores(nn.Module):
    r"""The logits of a head without margin or prior, over the background and C classes.

    .. math::
        z_j = s \max_k \cos(x, W_{jk}) \quad\text{or}\quad z_j = \max_k x \cdot W_{jk} + b_j

    With an objectness o, the classes share what is not background:
    :math:`z_0 = \log \sigma(-o),\; z_j = \log \sigma(o) + \log \mathrm{softmax}(z)_j`, whose softmax are the
    probabilities themselves. The parameters are those of the head, not copies.

    Args:
        head: over C + 1 classes, 0 being the background; with an objectness over C.
        objectness: from the embedding to o, or None.

    >>> scores = Scores(CosineHead(8, 4, scale=16.0, background=0))
    >>> scores(torch.randn(5, 8)).shape
    torch.Size([5, 4])
    """

    if TYPE_CHECKING:  # TorchScript finds the types out by itself
        bias: Tensor | None
        log_scale: Tensor | None
        objectness: nn.Linear | None

    def __init__(self, head: Head, objectness: nn.Linear | None = None) -> None:
        super().__init__()
        self.cosine = head.score == "cosine"
        self.num_classes = head.num_classes
        self.sub_centers = head.sub_centers
        self.shortest = SHORTEST  # TorchScript knows no global numbers
        learned = head.log_scale if isinstance(head, CosineHead) else None
        self.scale = 1.0 if learned is not None else float(head.logit_scale())
        self.weight = head.weight
        self.register_parameter("bias", head.bias)
        self.register_parameter("log_scale", learned)
        self.objectness = objectness

    @property
    def in_features(self) -> int:
        """D, as `torch.nn.Linear` has it."""
        return self.weight.shape[-1]

    @property
    def out_features(self) -> int:
        """C + 1, as `torch.nn.Linear` has it."""
        return self.num_classes + (self.objectness is not None)

    __jit_unused_properties__ = ("in_features", "out_features")

    def forward(self, x: Tensor) -> Tensor:  # (N, D) -> (N, C + 1)
        """Return the logits, in float32 or better for cosines."""
        weight, rows = self.weight.flatten(0, -2), x
        if self.cosine:
            if x.dtype == torch.float16 or x.dtype == torch.bfloat16:  # noqa: PLR1714  (TorchScript)
                rows = x.float()
            rows, weight = _unit(rows, self.shortest), _unit(weight.to(rows.dtype), self.shortest)
        logits = F.linear(rows, weight, self.bias if self.sub_centers == 1 else None)
        if self.cosine and logits.dtype != rows.dtype:  # under autocast
            logits = logits.to(rows.dtype)
        if self.sub_centers > 1:
            logits = logits.view(-1, self.num_classes, self.sub_centers).max(dim=2)[0]
            if self.bias is not None:
                logits = logits + self.bias
        if self.log_scale is not None:
            logits = logits * self.log_scale.exp()[0]
        elif self.scale != 1.0:
            logits = logits * self.scale
        if self.objectness is not None:
            there = self.objectness(x)
            logits = torch.cat([F.logsigmoid(-there), F.logsigmoid(there) + logits.log_softmax(1)], dim=1)
        return logits


def _unit(rows: Tensor, shortest: float) -> Tensor:
    """As `bisector.functional.cosine.unit`, in the words that TorchScript knows."""
    norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    direction: Tensor = rows / norm.masked_fill(norm <= shortest, float("inf"))
    return direction
