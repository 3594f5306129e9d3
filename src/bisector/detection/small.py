"""A Faster R-CNN small enough to be trained from scratch on a processor in minutes."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from bisector.errors import missing_extra, require_integer

try:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign
except ImportError:
    raise missing_extra("torchvision", "detection") from None

_WIDTHS = (32, 48, 96, 160)  # channels of the stages, at strides 2, 4, 8 and 16
_PYRAMID = 48  # channels of the feature pyramid
_CELLS = 5  # an RoI is pooled to so many cells a side
_EMBEDDING = 256


def small_fpn(num_classes: int, image_size: int) -> FasterRCNN:
    """Faster R-CNN on a residual network of 7 layers with a feature pyramid at strides 4, 8 and 16.

    For pictures of 100 to 250 pixels with objects from a tenth to two thirds of their edge. Nothing in it is
    pretrained or frozen; batch normalisation takes its statistics of the batch: 8 pictures or more.

    Args:
        num_classes: C + 1, with the background, as torchvision counts.
        image_size: the longer side of a picture is brought to it, in pixels.

    Raises:
        ArgumentError: a number is not legal.
        MissingExtraError: without torchvision.

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
        inner = self.second(functional.relu(self.first(features), inplace=True))
        return functional.relu(inner + self.beside(features), inplace=True)


def _convolution(before: int, after: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after))
