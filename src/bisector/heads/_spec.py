"""Heads by name, with options, as on the command line: ``igam:preset=paper``."""

import contextlib
import inspect
from typing import Any, get_type_hints

from torch import Tensor

from bisector.errors import parsed_options, require, require_choice
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
    for option, text in parsed_options(f"option of head {spec!r}", spec, assignments).items():
        require_choice(f"option of head {spec!r}", option, legal)
        require(option not in given, f"option of head {spec!r}", f"{option} twice", "each option once")
        options[option] = _value(option, text, spec)
    return head(in_features, num_classes, class_counts=class_counts, **options)


def _option_names(head: type[Head]) -> list[str]:
    own = inspect.signature(head.__init__).parameters.values()
    shared = CosineOptions if issubclass(head, CosineHead) else HeadOptions
    names = [option.name for option in own if option.kind is inspect.Parameter.KEYWORD_ONLY]
    return [option for option in (*names, *get_type_hints(shared)) if option not in _NOT_AS_TEXT]


def _value(option: str, text: str, spec: str) -> Any:
    if option in _SWITCHES:
        return require_choice(f"{option} of head {spec!r}", text.lower(), ("true", "false")) == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text  # a word, such as "paper"
