"""Detectors by name: torchvision's Faster R-CNNs, and the small one of `bisector.detection.small`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from bisector.detection.recipe import MODELS
from bisector.errors import ArgumentError, missing_extra, require, require_choice

try:
    from torchvision.models import get_model, get_model_weights
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
    from torchvision.ops.misc import FrozenBatchNorm2d
except ImportError as error:
    raise missing_extra("torchvision", "detection") from error

LONGER = 5 / 3
"""The longest side of a picture over its shortest, as in COCO's usual 1333 and 800."""

SMALL_SIZE = 160
"""Pixels of a side, of small-fpn where no other size was asked for."""


def build_detector(
    name: str,
    num_classes: int,
    *,
    image_size: int | None = None,
    pretrained: bool = False,
    pretrained_backbone: bool = False,
) -> FasterRCNN:
    """Return a Faster R-CNN of torchvision, its box predictor drawn anew for these classes.

    Weights are downloaded only where they are asked for.

    Args:
        name: one of `bisector.detection.recipe.MODELS`.
        num_classes: with the background, as torchvision counts.
        image_size: shorter side to which pictures are resized; the model's own if None.
        pretrained: begin with torchvision's weights of COCO.
        pretrained_backbone: begin with a backbone trained on ImageNet.

    Raises:
        ArgumentError: there is no such model or no weights of it, or they cannot be downloaded.

    >>> build_detector("fasterrcnn_mobilenet_v3_large_320_fpn", 4, image_size=64).roi_heads.box_predictor.cls_score
    Linear(in_features=1024, out_features=4, bias=True)
    """
    require_choice("model", name, MODELS)
    if name == "small-fpn":
        weightless = not (pretrained or pretrained_backbone)
        require(
            weightless, "pretrained", "it for small-fpn", "one of torchvision's models: it has no weights"
        )
        from bisector.detection.small import small_fpn

        return small_fpn(num_classes, image_size or SMALL_SIZE)
    options = {} if image_size is None else {"min_size": image_size, "max_size": round(LONGER * image_size)}
    if not pretrained:
        backbone = "DEFAULT" if pretrained_backbone else None
        return _built(name, weights=None, weights_backbone=backbone, num_classes=num_classes, **options)
    model: Any = _built(name, weights=get_model_weights(name).DEFAULT, **options)
    features = model.roi_heads.box_predictor.cls_score.in_features
    model.roi_heads.box_predictor = FastRCNNPredictor(features, num_classes)
    return model


def fixed_parts(model: nn.Module) -> dict[str, Any]:
    """Return what a model that began with published weights holds fixed: plain values, for a checkpoint.

    Torchvision freezes the first layers of such a model and all its batch norms. From the checkpoint the model is
    built without a download, as one from scratch; `fix_parts` makes it the same again.
    """
    norms = {name: m.eps for name, m in model.named_modules() if isinstance(m, FrozenBatchNorm2d)}
    return {
        "norms": norms,
        "parameters": [name for name, p in model.named_parameters() if not p.requires_grad],
    }


def fix_parts(model: nn.Module, fixed: Mapping[str, Any]) -> None:
    """Hold the parts fixed, in place, that `fixed_parts` of another such model named."""
    for name, eps in fixed["norms"].items():
        norm: Any = model.get_submodule(name)
        if not isinstance(norm, FrozenBatchNorm2d):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, FrozenBatchNorm2d(norm.num_features, eps))
    for name in fixed["parameters"]:
        model.get_parameter(name).requires_grad_(False)


def _built(name: str, **options: Any) -> FasterRCNN:
    try:
        return get_model(name, **options)
    except OSError as error:  # urllib's errors are such
        raise ArgumentError(
            f"pretrained: got {name}, whose weights cannot be downloaded ({error}); expected a way to them, or "
            "training from scratch"
        ) from None
