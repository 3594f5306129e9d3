"""Detection: torchvision's R-CNNs with any head of ours, trained and scored on COCO, LVIS and Pascal VOC files."""

from typing import TYPE_CHECKING

from bisector._attributes import lazy as _lazy

if TYPE_CHECKING:
    from bisector.detection.attaching import attach as attach
    from bisector.detection.attaching import detach as detach

__all__ = ["attach", "detach"]

__getattr__, __dir__ = _lazy(__name__, {"attach": "attaching", "detach": "attaching"})
