"""Heads by name, with options, as on the command line: ``igam:preset=paper``."""

from typing import Any

from torch import Tensor

from bisector.errors import require, require_choice
from bisector.heads._base import Head
from bisector.heads._names import NOT_AS_TEXT, head_options, parsed_head
from bisector.heads._registry import HEADS


def build_head(
    spec: str,
    in_features: int,
    num_classes: int,
    class_counts: Tensor | None = None,  # (C,)
    **given: Any,
) -> Head:
    """Return the head that a spec names: ``name[:option=value[:option=value...]]``.

    Args:
        spec: the name in kebab-case, then options of its constructor.
        in_features: D.
        num_classes: C.
        class_counts: (C,) training instances, for the heads that use them.
        given: further options, as its constructor takes them; those of the spec may not repeat one.

    Raises:
        ArgumentError: the name, an option or a value is not legal; the nearest legal name is given.

    >>> build_head("am-softmax:margin=0.2:scale=16", 8, 3)
    AMSoftmax(in_features=8, num_classes=3, scale=16, margin=0.2)
    """
    name, options = parsed_head(spec)
    for option in given:
        require_choice(f"option of head {spec!r}", option, [*head_options(name), *NOT_AS_TEXT])
        require(option not in options, f"option of head {spec!r}", f"{option} twice", "each option once")
    return HEADS[name](in_features, num_classes, class_counts=class_counts, **given, **options)
