"""The last layers of an R-CNN's box branch: the scores of a head at inference, its loss in training, and plain."""

import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bisector.errors import require
from bisector.functional.cosine import SHORTEST
from bisector.heads import CosineHead, Head, LinearSoftmax
from bisector.posthoc import BaseAdjustment
from bisector.posthoc.detections import adjust_logits

MARK = "classifier_crc32"
"""The entry of an adjustment's settings that says on which classifier it was fitted."""


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


class BoxPredictor(nn.Module):
    """What stands in the place of torchvision's `FastRCNNPredictor`.

    Args:
        head: the classifier and its loss, over C + 1 classes of which 0 is the background; with an objectness
            over C.
        bbox_pred: the linear layer of the box deltas, (C + 1) * 4 of them or, for all classes alike, 4.
        objectness: the linear layer that says whether there is an object at all, or None.

    Attributes:
        cls_score: the scores at inference; its parameters are those of the head.
        catching: whether a training step is under way that takes the loss from `loss`. Then `forward` keeps the
            embeddings, and its logits are NaN where no loss may be computed from them.
        embeddings: (N, D), of each call in this step.
        plain: whether the loss is the one that torchvision computes, bit by bit.
        adjusted: whether there is an `adjustment`.
    """

    # TorchScript exports the scores, not the loss.
    __jit_ignored_attributes__ = ("head", "embeddings", "_adjustment")
    __jit_unused_properties__ = ("adjustment", "mark")

    def __init__(self, head: Head, bbox_pred: nn.Linear, objectness: nn.Linear | None = None) -> None:
        super().__init__()
        self.head = head
        self.cls_score = Scores(head, objectness)
        self.bbox_pred = bbox_pred
        self.num_outputs = self.cls_score.out_features
        self.copies = self.num_outputs if bbox_pred.out_features == 4 else 1
        self.plain = objectness is None and _is_plain(head)
        self.catching = False
        self.embeddings: list[Tensor] = []
        self.adjusted = False
        self._adjustment: BaseAdjustment | None = None
        self.register_load_state_dict_post_hook(_tie)  # type: ignore[no-untyped-call]

    @property
    def adjustment(self) -> BaseAdjustment | None:
        """What moves the classes in evaluation mode, before thresholds and suppression; None for nothing.

        Among the C classes the scores of a box move as `bisector.posthoc.adjust_scores` says; what they have
        together, and the background's, stays. Training does not see it, and a state dict does not hold it.

        Raises:
            ArgumentError: `require_fitting` refuses what is set.
        """
        return self._adjustment

    @adjustment.setter
    def adjustment(self, given: BaseAdjustment | None) -> None:
        if given is not None:
            self.require_fitting(given)
        self._adjustment, self.adjusted = given, given is not None

    @torch.jit.unused
    def require_fitting(self, given: BaseAdjustment) -> None:
        """Raise `ArgumentError` for one that is of other classes, or was fitted on another detector."""
        classes, own = given.num_classes, self.num_outputs - 1
        legal = f"one of {own}, without the background"
        require(classes == own, "adjustment", f"one of {classes} classes", legal)
        mark = given.settings.get(MARK, self.mark)
        legal = "one of this detector: its embeddings are its own"
        require(mark == self.mark, "adjustment", "one that was fitted on another detector", legal)

    @property
    def mark(self) -> float:
        """A number by which the classifier's weights are known again, the CRC-32 of their bytes."""
        weight = self.head.weight.detach().cpu().float().contiguous()
        return float(zlib.crc32(weight.numpy().tobytes()))

    def __prepare_scriptable__(self) -> Self:
        require(not self.adjusted, "adjustment", "one in a model for TorchScript", "None")
        self.head.scripted_elsewhere = True  # by cls_score
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (N, D) or (N, D, 1, 1)
        """Return the (N, C + 1) logits for inference and the (N, 4 (C + 1)) deltas."""
        x = x.flatten(start_dim=1)
        if self.catching:
            self._keep(x)
        if self.catching and not self.plain:
            logits = torch.full([x.shape[0], self.num_outputs], math.nan, device=x.device)
        else:
            logits = self.cls_score(x)
        if self.adjusted and not self.training:
            logits = self._move(logits, x)
        return logits, self.bbox_pred(x).repeat(1, self.copies)

    @torch.jit.unused
    def _move(self, logits: Tensor, x: Tensor) -> Tensor:
        assert self._adjustment is not None
        traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        traced = traced and self._adjustment.needs_embeddings
        require(not traced, "adjustment", "a geometry in a model to be exported", "None, or class offsets")
        return adjust_logits(logits, self._adjustment, background=0, embeddings=x)

    @torch.jit.unused
    def _keep(self, x: Tensor) -> None:
        self.embeddings.append(x)

    @torch.jit.unused
    def loss(
        self,
        embeddings: Tensor,  # (N, D)
        labels: Tensor,  # (N,) 0 for the background, 1 to C
    ) -> Tensor:
        r"""Return the loss of the classification, the mean over the boxes.

        With an objectness it is the negative logarithm of the same probabilities that are scored with:
        :math:`-\log \sigma(\pm o)`, and for objects the head's loss over the C classes.
        """
        objectness = self.cls_score.objectness
        if objectness is None:
            loss: Tensor = self.head(embeddings, labels)
            return loss
        there = labels > 0
        found = objectness(embeddings)[:, 0].float()
        is_object = F.binary_cross_entropy_with_logits(found, there.to(found.dtype))
        which = self.head(embeddings, self.labels_of_head(labels))
        both: Tensor = is_object + which * (there.sum() / max(1, len(labels)))
        return both

    @torch.jit.unused
    def labels_of_head(
        self,
        labels: Tensor,  # (N,) 0 for the background, 1 to C
    ) -> Tensor:
        """Return the labels as the head counts: where it knows no background, C classes from 0."""
        if self.cls_score.objectness is None:
            return labels
        return torch.where(labels > 0, labels - 1, self.head.ignore_index)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `to`, `half` and the like; where they make new parameters, the scores get the head's."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        _tie(self)
        return self


class PlainPredictor(nn.Module):
    """Scores and box deltas, as torchvision's `FastRCNNPredictor` gives them; a box holds for `copies` classes."""

    def __init__(self, cls_score: nn.Module, bbox_pred: nn.Linear, copies: int) -> None:
        super().__init__()
        self.cls_score = cls_score
        self.bbox_pred = bbox_pred
        self.copies = copies

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and deltas."""
        x = x.flatten(start_dim=1)
        return self.cls_score(x), self.bbox_pred(x).repeat(1, self.copies)


def _is_plain(head: Head) -> bool:
    """Whether a head's loss is cross-entropy of a linear layer, and no option of it changes that."""
    return (
        type(head) is LinearSoftmax
        and head.bias is not None
        and head.class_weight is None
        and (head.tau, head.sub_centers, head.sample, head.reduction) == (0, 1, 1, "mean")
        and not head.row_loss.label_smoothing
        and not 0 <= head.ignore_index < head.num_classes
    )


def _tie(predictor: BoxPredictor, *of_hook: Any) -> None:
    """Let the scores hold the head's parameters, also where loading or moving made new ones."""
    scores, head = predictor.cls_score, predictor.head
    scores.weight, scores.bias = head.weight, head.bias
    scores.log_scale = getattr(head, "log_scale", None)
