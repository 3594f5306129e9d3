"""The heads by their names on the command line."""

from importlib import import_module

from bisector.heads._base import Head
from bisector.heads._names import HEAD_NAMES


def _defined_in(module_name: str) -> type[Head]:
    """Return the head that a module defines."""
    values = vars(import_module(module_name)).values()
    (head,) = (
        v for v in values if isinstance(v, type) and issubclass(v, Head) and v.__module__ == module_name
    )
    return head


HEADS = {name: _defined_in(f"bisector.heads.{name.replace('-', '_')}") for name in HEAD_NAMES}
"""The class of each name."""
