"""Training through Lightning: the module, the callback, the comparison of heads.

What a comparison leaves behind (`bisector.training.results`) can be read without Lightning.
"""

from bisector._attributes import lazy as _lazy

__getattr__, __dir__, __all__ = _lazy(__name__)
