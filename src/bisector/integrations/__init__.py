"""bisector in other libraries' clothes: a file for each library, which is imported by nothing else.

>>> import bisector.integrations
>>> bisector.integrations.__all__  # each file is imported by its own name
[]
"""

from bisector._attributes import lazy as _lazy

__getattr__, __dir__, __all__ = _lazy(__name__)
