"""The public names of a package, declared once in its stub and imported when they are first asked for."""

import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the `__getattr__`, `__dir__` and `__all__` of a package whose public names are imported on first use.

    The names and their modules are read from the package's ``__init__.pyi``, which type checkers read too: a line
    each, ``from module import Name as Name``. Its subpackages are attributes as well, but not in `__all__`.
    See PEP 562.

    >>> import bisector.detection
    >>> get, names, public = lazy("bisector.detection")
    >>> public
    ['attach', 'detach', 'fit_geometry']
    >>> get("attack")
    Traceback (most recent call last):
    AttributeError: module 'bisector.detection' has no attribute 'attack'
    """
    attributes = vars(sys.modules[package])
    stub = attributes["__spec__"].loader.get_data(f"{attributes['__file__']}i").decode()
    imports = [line.split() for line in stub.splitlines() if line.startswith("from ")]
    modules = {name: module for _, module, _, name, _, _ in imports}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if modules[name] == package:
            return importlib.import_module(f"{package}.{name}")
        attributes[name] = getattr(importlib.import_module(modules[name]), name)
        return attributes[name]

    public = [name for name, module in modules.items() if module != package]
    return get, lambda: sorted({*attributes, *modules}), public
