"""Detectors by name: torchvision's Faster R-CNNs, and one small enough to be trained on a processor in minutes."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bisector.detection.recipe import MODELS
from bisector.errors import ArgumentError, missing_extra, require, require_choice, require_integer

try:
    from torchvision.models import get_model, get_model_weights
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign
    from torchvision.ops.misc import FrozenBatchNorm2d
except ImportError as error:
    raise missing_extra("torchvision", "detection") from error

LONGER = 5 / 3
"""The longest side of a picture over its shortest, as in COCO's usual 1333 and 800."""

SMALL_SIZE = 160
"""Pixels of a side, of small-fpn where no other size was asked for."""

_WIDTHS = (32, 48, 96, 160)  # channels of the stages, at strides 2, 4, 8 and 16
_PYRAMID = 48  # channels of the feature pyramid
_CELLS = 5  # an RoI is pooled to so many cells a side
_EMBEDDING = 256


def build_detector(
    name: str,
    num_classes: int,
    *,
    image_size: int | None = None,
    pretrained: bool = False,
    pretrained_backbone: bool = False,
) -> FasterRCNN:
    """Return a Faster R-CNN of torchvision, its box predictor drawn anew for these classes.

    Weights are downloaded only where they are asked for: torchvision's of COCO (`pretrained`), or a backbone of
    ImageNet. The shorter side of a picture is resized to `image_size`; to the model's own if None.

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


def small_fpn(num_classes: int, image_size: int) -> FasterRCNN:
    """Faster R-CNN on a residual network of 7 layers with a feature pyramid at strides 4, 8 and 16.

    For pictures of 100 to 250 pixels with objects from a tenth to two thirds of their edge. Nothing in it is
    pretrained or frozen; batch normalisation takes its statistics of the batch: 8 pictures or more. The longer side
    of a picture is resized to `image_size`.

    >>> model = small_fpn(num_classes=11, image_size=128)
    >>> sum(weights.numel() for weights in model.parameters()) < 2_500_000
    True
    """
    require_integer("num_classes", num_classes, least=2)
    require_integer("image_size", image_size, least=32)
    sides = [(image_size * share,) for share in (0.15, 0.27, 0.48)]
    detector = FasterRCNN(
        _pyramid(),
        min_size=image_size,
        max_size=image_size,
        rpn_anchor_generator=AnchorGenerator(sides, ((0.6, 1.0, 1.7),) * len(sides)),
        rpn_pre_nms_top_n_train=200,
        rpn_post_nms_top_n_train=150,
        rpn_pre_nms_top_n_test=150,
        rpn_post_nms_top_n_test=60,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], output_size=_CELLS, sampling_ratio=2),
        box_head=TwoMLPHead(_PYRAMID * _CELLS**2, _EMBEDDING),
        box_predictor=FastRCNNPredictor(_EMBEDDING, num_classes),
        box_batch_size_per_image=48,
        box_detections_per_img=50,
    )
    detector.to(memory_format=torch.channels_last)  # a fifth faster on processors
    return detector


def _pyramid() -> BackboneWithFPN:
    """Levels "0", "1" and "2" at strides 4, 8 and 16."""
    stages = nn.Sequential(
        nn.Sequential(_convolution(3, _WIDTHS[0], stride=2), nn.ReLU(inplace=True)),
        *(Residual(before, after) for before, after in pairwise(_WIDTHS)),
    )
    levels = {str(stage): str(stage - 1) for stage in range(1, len(_WIDTHS))}
    backbone = BackboneWithFPN(stages, levels, list(_WIDTHS[1:]), _PYRAMID)
    backbone.fpn.extra_blocks = None  # a fourth level, which nothing here uses
    return backbone


class Residual(nn.Module):
    """Two convolutions, the first of which halves the resolution, and what came in beside them (He et al. 2016)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = _convolution(before, after, stride=2)
        self.second = _convolution(after, after)
        self.beside = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), _convolution(before, after, size=1))

    def forward(
        self, features: Tensor
    ) -> Tensor:  # (B, before, h, w) -> (B, after, ceil(h / 2), ceil(w / 2))
        """Return the features at half the resolution."""
        inner = self.second(F.relu(self.first(features), inplace=True))
        return F.relu(inner + self.beside(features), inplace=True)


def _convolution(before: int, after: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after))
