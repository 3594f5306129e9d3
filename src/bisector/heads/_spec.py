"""Heads by name, with options, as on the command line: ``igam:preset=paper``."""

import contextlib
import inspect
from typing import Any, get_type_hints

from torch import Tensor

from bisector.errors import require, require_choice
from bisector.heads._base import CosineHead, CosineOptions, Head, HeadOptions
from bisector.heads._names import require_head_name
from bisector.heads._registry import HEADS

# Options that no text can give, or that the caller gives.
_NOT_AS_TEXT = {
    "custom_margin",
    "information",
    "class_counts",
    "weight",
    "reduction",
    "ignore_index",
    "background",
    "budget",
    "device",
    "dtype",
}
_SWITCHES = {"bias", "learnable_scale", "sparse"}


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
    name, *assignments = spec.strip().split(":")
    head = HEADS[require_head_name(name)]
    legal = _option_names(head)
    for option in given:
        require_choice(f"option of head {spec!r}", option, [*legal, *_NOT_AS_TEXT])
    options: dict[str, Any] = dict(given)
    for text in assignments:
        option, value = _parse(text, spec, legal)
        require(option not in options, f"option of head {spec!r}", f"{option} twice", "each option once")
        options[option] = value
    return head(in_features, num_classes, class_counts=class_counts, **options)


def _option_names(head: type[Head]) -> list[str]:
    own = inspect.signature(head.__init__).parameters.values()
    shared = CosineOptions if issubclass(head, CosineHead) else HeadOptions
    names = [option.name for option in own if option.kind is inspect.Parameter.KEYWORD_ONLY]
    return [option for option in (*names, *get_type_hints(shared)) if option not in _NOT_AS_TEXT]


def _parse(text: str, spec: str, legal: list[str]) -> tuple[str, Any]:
    option, equals, value = text.partition("=")
    require(bool(equals and value), "head", repr(spec), "name:option=value")
    require_choice(f"option of head {spec!r}", option, legal)
    if option in _SWITCHES:
        require_choice(f"{option} of head {spec!r}", value.lower(), ("true", "false"))
        return option, value.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return option, kind(value)
    return option, value  # a word, such as "paper"
