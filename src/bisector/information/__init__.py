"""What a category holds: its information amount and the meter that keeps it up to date."""

from bisector._attributes import lazy as _lazy

__getattr__, __dir__, __all__ = _lazy(__name__)
