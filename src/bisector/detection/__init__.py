"""Detection: torchvision's R-CNNs with any head of ours, trained and scored on COCO, LVIS and Pascal VOC files."""

from bisector._attributes import lazy as _lazy

__getattr__, __dir__, __all__ = _lazy(__name__)
