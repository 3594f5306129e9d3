"""BoxPredictor: the last layers of an R-CNN's box branch, with a head of ours as the classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bisector.detection.scores import Scores
from bisector.heads import LinearSoftmax
from bisector.heads.base import Head


class BoxPredictor(nn.Module):
    """What stands in the place of torchvision's `FastRCNNPredictor`.

    Args:
        head: the classifier and its loss, over C + 1 classes of which 0 is the background; with an objectness
            over C.
        bbox_pred: the linear layer of the box deltas, (C + 1) * 4 of them or, for all classes alike, 4.
        objectness: the linear layer that says whether there is an object at all, or None.

    Attributes:
        cls_score: the scores at inference; its parameters are those of the head.
        embeddings: of the last training step, (N, D), until `loss` has taken them.
        plain: whether the loss is the one that torchvision computes, bit by bit.
    """

    # TorchScript exports the scores, not the loss.
    __jit_ignored_attributes__ = ("head", "embeddings")

    def __init__(self, head: Head, bbox_pred: nn.Linear, objectness: nn.Linear | None = None) -> None:
        super().__init__()
        self.head = head
        self.cls_score = Scores(head, objectness)
        self.bbox_pred = bbox_pred
        self.num_outputs = self.cls_score.out_features
        self.copies = self.num_outputs if bbox_pred.out_features == 4 else 1
        self.plain = objectness is None and _is_plain(head)
        self.embeddings: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (N, D) or (N, D, 1, 1)
        """Return the (N, C + 1) logits for inference and the (N, 4 (C + 1)) deltas.

        In training the logits are zeros where the loss is not computed from them.
        """
        x = x.flatten(start_dim=1)
        if self.training and not self.plain:
            logits = torch.zeros(x.shape[0], self.num_outputs, dtype=torch.float32, device=x.device)
        else:
            logits = self.cls_score(x)
        if self.training:
            self._keep(x)
        deltas = self.bbox_pred(x)
        if self.copies > 1:
            deltas = deltas.repeat(1, self.copies)
        return logits, deltas

    @torch.jit.unused
    def _keep(self, x: Tensor) -> None:
        self.embeddings = x

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


def _is_plain(head: Head) -> bool:
    """Whether a head's loss is cross-entropy of a linear layer, and no option of it changes that."""
    return (
        type(head) is LinearSoftmax
        and head.bias is not None
        and head.class_weight is None
        and (head.tau, head.sub_centers, head.sample, head.reduction) == (0, 1, 1, "mean")
        and not head.row_loss.label_smoothing
    )
