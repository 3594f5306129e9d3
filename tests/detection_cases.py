"""Tiny R-CNNs of torchvision, and images with boxes for them."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

CLASSES = 6  # with the background


class TinyBackbone(nn.Module):
    """One feature map of stride 8, in the shape that an FPN gives."""

    out_channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.more = nn.Conv2d(8, 8, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"0": self.more(self.conv(x).relu()).relu()}


def tiny(kind: type = FasterRCNN, seed: int = 0, classes: int = CLASSES, **options: Any) -> Any:
    """An untrained model in training mode, always the same one for the same seed."""
    torch.manual_seed(seed)
    pool = MultiScaleRoIAlign(featmap_names=["0"], output_size=3, sampling_ratio=2)
    given = {
        "min_size": 64,
        "max_size": 96,
        "rpn_anchor_generator": AnchorGenerator(((16, 32),), ((1.0,),)),
        "box_roi_pool": pool,
        "rpn_pre_nms_top_n_train": 64,
        "rpn_post_nms_top_n_train": 32,
        "rpn_post_nms_top_n_test": 16,
        "box_batch_size_per_image": 16,
        "box_head": nn.Sequential(nn.Flatten(), nn.Linear(72, 24), nn.ReLU()),
        "box_predictor": _predictor(24, classes),
        "box_score_thresh": 0.0,
    }
    if kind is MaskRCNN:
        given["mask_roi_pool"] = pool
        given["mask_head"] = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.ReLU())
        given["mask_predictor"] = nn.Conv2d(4, classes, 1)
    return kind(TinyBackbone(), **{**given, **options}).train()


def _predictor(width: int, classes: int) -> nn.Module:
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

    return FastRCNNPredictor(width, classes)


def batch(
    *, masks: bool = False, seed: int = 0, classes: int = CLASSES
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Three images: with two objects, with none, with one."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(3, h, w, generator=generator) for h, w in ((64, 80), (72, 64), (64, 64))]
    boxes = [[[4.0, 4, 40, 44], [30, 10, 78, 60]], [], [[8, 16, 50, 60]]]
    labels = [[1, 3], [], [5]]
    targets = [
        {
            "boxes": torch.tensor(b).reshape(-1, 4),
            "labels": torch.tensor(c, dtype=torch.long).clamp_max(classes - 1),
        }
        for b, c in zip(boxes, labels, strict=True)
    ]
    if masks:
        for image, target in zip(images, targets, strict=True):
            target["masks"] = torch.ones(len(target["labels"]), *image.shape[1:], dtype=torch.uint8)
    return images, targets


def step(model: nn.Module, seed: int = 1, **how: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of one training step, with the random choices of the seed."""
    model.train()
    model.zero_grad()
    torch.manual_seed(seed)
    losses = model(*batch(**how))
    sum(losses.values()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return losses, gradients


def detections(model: nn.Module) -> list[dict[str, Tensor]]:
    """What the model finds in the batch."""
    model.eval()
    with torch.no_grad():
        return model(batch()[0])
