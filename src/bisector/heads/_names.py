"""What the heads are called, here and elsewhere: read without importing torch, so that a typo is told at once."""

import ast
import contextlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bisector.errors import parsed_options, plain, require, require_choice

HEAD_NAMES = tuple(
    sorted(
        file.stem.replace("_", "-")
        for file in Path(__file__).parent.glob("*.py")
        if not file.stem.startswith("_")
    )
)
"""The names on the command line: those of the files here, `am_softmax.py` for "am-softmax"."""

OTHER_NAMES = {
    "softmax": "linear-softmax",
    "ce": "linear-softmax",
    "cross-entropy": "linear-softmax",
    "crossentropy": "linear-softmax",
    "linear": "linear-softmax",
    "normface": "normalized-softmax",
    "cosine": "normalized-softmax",
    "cosine-softmax": "normalized-softmax",
    "norm-softmax": "normalized-softmax",
    "cosface": "am-softmax",
    "amsoftmax": "am-softmax",
    "additive-margin": "am-softmax",
    "additive-margin-softmax": "am-softmax",
    "lmcl": "am-softmax",
    "ada-face": "adaface",
    "aam-softmax": "arcface",
    "aamsoftmax": "arcface",
    "additive-angular-margin": "arcface",
    "sub-center-arcface": "arcface:sub_centers=3",
    "subcenter-arcface": "arcface:sub_centers=3",
    "sphereface": "combined-margin:m1=1.35",
    "a-softmax": "combined-margin:m1=1.35",
    "circle-loss": "circle",
    "circleloss": "circle",
    "balanced-softmax": "logit-adjusted",
    "logit-adjustment": "logit-adjusted",
    "la": "logit-adjusted",
    "prior": "logit-adjusted",
    "seesaw-loss": "seesaw",
}
"""What papers and other libraries call them."""


NOT_AS_TEXT = {
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
"""Options that no text can give, or that the caller gives."""

_NUMBERS = {"int", "float", "Tensor", "Sequence[float]", "None"}  # of an annotation: no word is legal


def require_baseline(baseline: str, heads: Sequence[str]) -> None:
    """Raise `ArgumentError` unless the head that others are compared with is one of them, or not named."""
    legal = f"one of the heads compared: {', '.join(heads)}"
    require(baseline in {"", *heads}, "baseline", repr(baseline), legal)


def require_distinct(heads: Sequence[str], name: str = "heads") -> None:
    """Raise `ArgumentError` where a head is named twice."""
    for spec in heads:
        require(heads.count(spec) == 1, name, f"{spec!r} twice", "each head once")


def require_head_name(name: str) -> str:
    """Return the name of a head; otherwise raise with the one that is probably meant.

    >>> require_head_name("cosface")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: head: got 'cosface'; did you mean 'am-softmax'? expected one of ...
    """
    word = plain(name)
    return require_choice("head", name, HEAD_NAMES, [OTHER_NAMES[word]] if word in OTHER_NAMES else [])


def parsed_head(spec: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the head that a spec names, and its options.

    Raises:
        ArgumentError: the name, an option or a switch is not legal; the nearest legal name is given.

    >>> parsed_head("arcface:margin=0.3:sparse=true")
    ('arcface', {'margin': 0.3, 'sparse': True})
    """
    name, *assignments = spec.strip().split(":")
    legal, called = head_options(require_head_name(name)), f"option of head {spec!r}"
    options = parsed_options(called, spec, assignments)
    return name, {
        key: _value(f"{key} of head {spec!r}", text, legal[require_choice(called, key, legal)])
        for key, text in options.items()
    }


@cache
def head_options(name: str) -> dict[str, str]:
    """Return the options of a head that a text can give, with their types, read from the source of its constructor.

    >>> list(head_options("linear-softmax").items())[:3]
    [('bias', 'bool'), ('tau', 'float'), ('sub_centers', 'int')]
    """
    functions = (node for node in _nodes(name.replace("-", "_")) if isinstance(node, ast.FunctionDef))
    own = next(one.args for one in functions if one.name == "__init__" and one.args.kwarg is not None)
    (shared,) = (
        node.id for node in ast.walk(own) if isinstance(node, ast.Name) and node.id.endswith("Options")
    )
    kinds = {node.name: node for node in _nodes("_base") if isinstance(node, ast.ClassDef)}
    fields = [*kinds["HeadOptions"].body, *(kinds[shared].body if shared != "HeadOptions" else ())]
    typed = [(option.arg, option.annotation) for option in own.kwonlyargs]
    typed += [
        (ast.unparse(field.target), field.annotation) for field in fields if isinstance(field, ast.AnnAssign)
    ]
    return {name: ast.unparse(kind) for name, kind in typed if kind and name not in NOT_AS_TEXT}


def _nodes(module: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")))


def _value(called: str, text: str, kind: str) -> Any:
    """Return the value that a text means for an option of this type."""
    if kind == "bool":
        return require_choice(called, text.lower(), ("true", "false")) == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    words = re.findall(r"'(\w+)'", kind)  # of a Literal; where the type has a name, the head knows them
    known = set(re.sub(r"Literal\[.*?\]", "None", kind).split(" | ")) <= _NUMBERS
    require(not known or text in words, called, repr(text), " or ".join(["a number", *map(repr, words)]))
    return text  # a word, such as "paper"
