"""MarginRoIHeads: torchvision's RoI heads, whose boxes are classified by a head of ours."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bisector.detection.predictor import BoxPredictor
from bisector.errors import missing_extra
from bisector.heads.base import Head

try:
    from torchvision.models.detection.roi_heads import RoIHeads
except ImportError as error:
    raise missing_extra("torchvision", "detection") from error

METER_ON = ("proposals", "boxes")


class MarginRoIHeads(RoIHeads):  # type: ignore[misc]
    """Torchvision's RoI heads with the loss of a `BoxPredictor`; made by `bisector.detection.attach`.

    Torchvision's forward calls its classification loss by name and offers no place for another. It is run as it
    is, masks and keypoints with it, and the loss of the classification then takes the place of its own in the
    dict that it returns. At inference nothing differs but the scores, so that TorchScript and ONNX exports are
    torchvision's.

    Attributes:
        meter_on: what `observe` feeds: the embeddings of the foreground "proposals" of the last step, which are
            there anyway, or those of the ground-truth "boxes", which costs one more pass through the box branch.
    """

    if TYPE_CHECKING:  # TorchScript reads annotations of attributes, and knows none of ours
        box_predictor: BoxPredictor
        meter_on: str
        _labels: Tensor | None
        _observed: tuple[Tensor, Tensor] | None
    __jit_ignored_attributes__ = ("_labels", "_observed", "meter_on")
    __jit_unused_properties__ = ("head", "observed")

    @property
    def head(self) -> Head:
        """The classifier."""
        return self.box_predictor.head

    @property
    def observed(self) -> tuple[Tensor, Tensor] | None:
        """Embeddings (n, D) and labels (n,) of the last training step's objects, as the head counts classes."""
        return self._observed

    def observe(self) -> None:
        """Feed the head's meter, or whatever it counts, with the last training step; once, after the step.

        Heads that observe nothing take no notice.
        """
        if self._observed is not None and hasattr(self.head, "observe"):
            self.head.observe(*self._observed)  # type: ignore[operator]
        self._observed = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run torchvision's forward; in training, set our loss in the place of its own.

        This is not `forward`, since TorchScript compiles that one and knows no `super`.
        """
        if not self.training:
            return super().__call__(*arguments, **named)
        self._labels = self._observed = None
        result, losses = super().__call__(*arguments, **named)
        predictor = self.box_predictor
        embeddings, labels = predictor.embeddings, self._labels
        predictor.embeddings = self._labels = None  # not held longer than the graph
        if embeddings is None or labels is None:
            raise RuntimeError("the box branch has not run: this is no RoIHeads that torchvision has made")
        if not predictor.plain:
            losses["loss_classifier"] = predictor.loss(embeddings, labels)
        if self.meter_on == "boxes":
            features, _, shapes, targets = _of_forward(*arguments, **named)
            boxes, labels = (
                [t["boxes"] for t in targets],
                torch.cat([t["labels"] for t in targets]),
            )
            embeddings = self.embed_boxes(features, boxes, shapes)
        there = labels > 0
        self._observed = (
            embeddings.detach()[there],
            predictor.labels_of_head(labels[there]),
        )
        return result, losses

    @torch.jit.unused
    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Choose the boxes to train on as torchvision does, and remember their labels."""
        chosen: tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]
        chosen = super().select_training_samples(proposals, targets)
        self._labels = torch.cat(chosen[2])
        return chosen

    @torch.jit.unused
    def embed_boxes(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],  # of each image (n_i, 4), in the coordinates of the network's input
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Return the (n, D) embeddings of given boxes, as at inference, without gradients."""
        training = self.box_head.training
        self.box_head.eval()
        try:
            with torch.no_grad():
                pooled = self.box_roi_pool(features, boxes, image_shapes)
                found: Tensor = self.box_head(pooled).flatten(1)
        finally:
            self.box_head.train(training)
        return found


def _of_forward(features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> tuple[Any, ...]:
    return features, proposals, image_shapes, targets
