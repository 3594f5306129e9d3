"""Whether a head's spec can be read, asked before anything is loaded."""

import torch

from bisector.detection.attaching import SHORT_NAMES
from bisector.heads import build_head


def require_head(spec: str) -> None:
    """Raise `ArgumentError` unless a spec names a head of bisector and options of it.

    >>> require_head("igma")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: head: got 'igma'; did you mean 'igam'? expected one of ...
    """
    name, colon, rest = spec.strip().partition(":")
    build_head(SHORT_NAMES.get(name, name) + colon + rest, 8, 4, torch.ones(4), background=0)
