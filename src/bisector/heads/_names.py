"""What the heads are called, here and elsewhere: read without importing torch, so that a typo is told at once."""

import ast
import contextlib
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

_SWITCHES = {"bias", "learnable_scale", "sparse"}


def require_baseline(baseline: str, heads: Sequence[str]) -> None:
    """Raise `ArgumentError` unless the head that others are compared with is one of them, or not named."""
    legal = f"one of the heads compared: {', '.join(heads)}"
    require(baseline in {"", *heads}, "baseline", repr(baseline), legal)


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
    legal, called = option_names(require_head_name(name)), f"option of head {spec!r}"
    options = parsed_options(called, spec, assignments)
    return name, {
        require_choice(called, key, legal): _value(key, text, spec) for key, text in options.items()
    }


@cache
def option_names(name: str) -> list[str]:
    """Return the options of a head that a text can give, read from the source of its constructor.

    >>> option_names("linear-softmax")[:4]
    ['bias', 'tau', 'sub_centers', 'label_smoothing']
    """
    functions = (node for node in _nodes(name.replace("-", "_")) if isinstance(node, ast.FunctionDef))
    own = next(one.args for one in functions if one.name == "__init__" and one.args.kwarg is not None)
    (shared,) = (
        node.id for node in ast.walk(own) if isinstance(node, ast.Name) and node.id.endswith("Options")
    )
    kinds = {node.name: node for node in _nodes("_base") if isinstance(node, ast.ClassDef)}
    fields = [*kinds["HeadOptions"].body, *(kinds[shared].body if shared != "HeadOptions" else ())]
    names = [option.arg for option in own.kwonlyargs]
    names += [ast.unparse(field.target) for field in fields if isinstance(field, ast.AnnAssign)]
    return [option for option in names if option not in NOT_AS_TEXT]


def _nodes(module: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")))


def _value(option: str, text: str, spec: str) -> Any:
    if option in _SWITCHES:
        return require_choice(f"{option} of head {spec!r}", text.lower(), ("true", "false")) == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text  # a word, such as "paper"
