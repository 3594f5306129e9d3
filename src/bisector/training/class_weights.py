"""The class weights of a training: what a recipe asks for, as a number for each class."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bisector.errors import ArgumentError, require, require_number

if TYPE_CHECKING:  # a recipe is read without torch
    from torch import Tensor

EXPECTED = "none, auto, effective, effective:BETA, or NAME=NUMBER,NAME=NUMBER"


def parsed(asked: str | Mapping[Any, Any]) -> str | dict[str, float]:
    """Return what a recipe asks for as it is kept: a word, or the weights by the names of the classes.

    Args:
        asked: "none", "auto", "effective", "effective:0.99", "cat=3.5,dog=2", or a mapping, also as JSON: names
            with commas are written so.

    Raises:
        ArgumentError: it is none of these, or a number is not legal.

    >>> parsed("cat=3.5,dog=2")
    {'cat': 3.5, 'dog': 2.0}
    """
    if isinstance(asked, str):
        text = asked.strip()
        word, _, beta = text.partition(":")
        if text in {"none", "auto", "effective"}:
            return text
        if word == "effective" and "=" not in text:
            number = require_number("class_weights", _number(text, beta), least=0)
            require(number < 1, "class_weights", repr(text), "a beta in [0, 1)")
            return f"effective:{number!r}"
        asked = _of_json(text) if text.startswith("{") else _of_pairs(text)
    require(isinstance(asked, Mapping) and len(asked) > 0, "class_weights", repr(asked), EXPECTED)
    return {str(name): require_number(f"class_weights of {name!s}", w, least=0) for name, w in asked.items()}


def require_weighted_classes(asked: str | Mapping[str, float], class_names: Sequence[str]) -> None:
    """Raise `ArgumentError` where weights are asked for by a name that no class has."""
    known = set(class_names)
    for name in () if isinstance(asked, str) else asked:
        if name not in known:
            near = difflib.get_close_matches(name, class_names, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            shown = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
            raise ArgumentError(
                f"class_weights: got {name!r}, which no class is called; {hint}the classes are {shown}"
            )


def weights_of_classes(
    asked: str | Mapping[str, float],
    class_names: Sequence[str],
    counts: "Tensor",  # (C,)
) -> "Tensor | None":
    """Return the (C,) weights that a recipe asks for, or None.

    Those by name are taken as they are, 1 for a class that is not named.

    Raises:
        ArgumentError: a name is no class's, or every class would have the weight 0.
    """
    import torch

    from bisector.functional.class_weights import class_weights

    if asked == "none":
        return None
    if isinstance(asked, str):
        word, _, beta = asked.partition(":")
        how: Any = word
        return class_weights(counts, how, **({"beta": float(beta)} if beta else {}))
    require_weighted_classes(asked, class_names)
    places = {name: place for place, name in enumerate(class_names)}
    weights = torch.ones(len(class_names), dtype=torch.float64)
    for name, weight in asked.items():
        weights[places[name]] = weight
    require(
        bool((weights > 0).any()), "class_weights", "0 for every class", "a number above 0 for one or more"
    )
    return weights


def _of_pairs(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        require(bool(name.strip() and equals), "class_weights", repr(text), EXPECTED)
        require(name.strip() not in found, "class_weights", f"{name.strip()!r} twice", "each class once")
        found[name.strip()] = _number(text, value)
    return found


def _of_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ArgumentError(f'class_weights: got {text!r}; expected JSON, as {{"cat": 3.5}}') from None


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ArgumentError(f"class_weights: got {value!r} in {text!r}; expected {EXPECTED}") from None
