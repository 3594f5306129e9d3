"""Public names of a package that are imported when they are first asked for."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy(
    package: str, homes: Mapping[str, str], rooms: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package that imports nothing before it is needed (PEP 562).

    Args:
        package: its ``__name__``.
        homes: the module inside the package that holds each public name.
        rooms: subpackages that are attributes too.

    >>> get, names = lazy("bisector.detection", {"attach": "attaching"})
    >>> "attach" in names()
    True
    >>> get("attack")
    Traceback (most recent call last):
    AttributeError: module 'bisector.detection' has no attribute 'attack'
    """
    attributes = vars(sys.modules[package])

    def get(name: str) -> Any:
        if name in homes:
            attributes[name] = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
            return attributes[name]
        if name in rooms:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*attributes, *homes, *rooms})
