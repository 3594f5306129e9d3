"""Training through Lightning: the module, the callback, the comparison of heads.

What a comparison leaves behind (`bisector.training.results`) can be read without Lightning.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bisector.training.guide import InformationGuide as InformationGuide
    from bisector.training.module import Classifier as Classifier
    from bisector.training.sharding import ShardedDDP as ShardedDDP

__all__ = ["Classifier", "InformationGuide", "ShardedDDP"]

_HOMES = {"Classifier": "module", "InformationGuide": "guide", "ShardedDDP": "sharding"}


def __getattr__(name: str) -> Any:
    """Import what needs Lightning when it is first asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"bisector.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bisector.training' has no attribute {name!r}")
