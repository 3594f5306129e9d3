"""MarginRoIHeads: torchvision's RoI heads, whose boxes are classified by a head of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bisector.detection.predictor import BoxPredictor
from bisector.errors import ArgumentError, missing_extra, require
from bisector.heads import Head

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
    torchvision's. Forward hooks on these RoI heads see the dict before, with NaN in that place.

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
        """Embeddings (n, D) and labels (n,) of the last forward's objects, as the head counts classes.

        None before the first one that is trained on, and after `observe`.
        """
        return self._observed

    def observe(self) -> None:
        """Feed the head's meter, or whatever it counts, with the last forward; once after each that is trained on.

        Heads that observe nothing take no notice. A head that counts over several processes (AdaFace, Seesaw) makes
        a collective call here: all processes call it in every step.
        """
        measures = hasattr(self.head, "observe") and getattr(self.head, "information", self) is not None
        if self._observed is not None and measures:
            self.head.observe(*self._observed)  # type: ignore[operator]
        self._observed = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run torchvision's forward; in training, set our loss in the place of its own.

        This is not `forward`, since TorchScript compiles that one and knows no `super`.

        Raises:
            ArgumentError: a target has a label that is none of the classes.
        """
        if not self.training:
            return super().__call__(*arguments, **named)
        features, _, shapes, targets = _of_forward(*arguments, **named)
        self._require_labels(targets)
        predictor = self.box_predictor
        predictor.catching, predictor.embeddings, self._labels = True, [], None
        try:
            result, losses = super().__call__(*arguments, **named)
            seen, labels = predictor.embeddings, self._labels
        finally:  # nothing is held longer than the step, whatever happened in it
            predictor.catching, predictor.embeddings, self._labels = False, [], None
        if len(seen) != 1 or labels is None:
            raise ArgumentError(
                f"model: got {type(self).__name__}, which classifies {len(seen)} times in a step; expected once"
            )
        embeddings = seen[0]
        if not len(labels):  # not one proposal: torchvision's means over nothing are NaN
            nothing = sum(parameter.sum() * 0 for parameter in predictor.parameters())
            losses["loss_classifier"] = losses["loss_box_reg"] = nothing
        elif not predictor.plain:
            losses["loss_classifier"] = predictor.loss(embeddings, labels)
        if torch.is_grad_enabled():  # a loss that is only looked at is no evidence
            if self.meter_on == "boxes":
                labels = torch.cat([target["labels"] for target in targets])
                boxes = [target["boxes"].to(embeddings.dtype) for target in targets]
                embeddings = self.embed_boxes(features, boxes, shapes)
            there = labels > 0
            self._observed = embeddings.detach()[there], predictor.labels_of_head(labels[there])
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
        with evaluating(self.box_head):
            pooled = self.box_roi_pool(features, boxes, image_shapes)
            found: Tensor = self.box_head(pooled).flatten(1)
        return found

    @torch.jit.unused
    def _require_labels(self, targets: list[dict[str, Tensor]] | None) -> None:
        """Refuse here what would end in an index error of torchvision's, or kill a GPU's context."""
        if targets and all("labels" in target for target in targets):
            labels = torch.cat([target["labels"] for target in targets])
            wrong = labels[(labels < 1) | (labels >= self.box_predictor.num_outputs)]
            last = self.box_predictor.num_outputs - 1
            got = f"label {int(wrong[0])}" if len(wrong) else ""
            require(not len(wrong), "targets", got, f"1 to {last}: 0 is the background, which has no boxes")


def _of_forward(features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> tuple[Any, ...]:
    return features, proposals, image_shapes, targets


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each part is as it was, one that was frozen too.

    >>> frozen = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout()).train()
    >>> _ = frozen[0].eval()
    >>> with evaluating(frozen):
    ...     pass
    >>> [part.training for part in frozen]
    [False, True]
    """
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
