"""The classifier heads: one file a head, `HEADS` by their names on the command line.

A file here without an underscore before its name is a head, and is found by its name.
"""

from bisector._attributes import lazy as _lazy

__getattr__, __dir__, __all__ = _lazy(__name__)
