"""Training through Lightning: the module, the callback, the comparison of heads.

What a comparison leaves behind (`bisector.training.results`) can be read without Lightning.
"""

from typing import TYPE_CHECKING

from bisector._attributes import lazy as _lazy

if TYPE_CHECKING:
    from bisector.training.guide import InformationGuide as InformationGuide
    from bisector.training.module import Classifier as Classifier
    from bisector.training.sharding import ShardedDDP as ShardedDDP

__all__ = ["Classifier", "InformationGuide", "ShardedDDP"]

__getattr__, __dir__ = _lazy(
    __name__, {"Classifier": "module", "InformationGuide": "guide", "ShardedDDP": "sharding"}
)
