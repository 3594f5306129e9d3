"""Detection: torchvision's R-CNNs with any head of ours, trained and scored on COCO, LVIS and Pascal VOC files."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bisector.detection.attaching import attach as attach
    from bisector.detection.attaching import detach as detach

__all__ = ["attach", "detach"]

_HOMES = {"attach": "attaching", "detach": "attaching"}


def __getattr__(name: str) -> Any:
    """Import what needs torchvision when it is first asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"bisector.detection.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bisector.detection' has no attribute {name!r}")
