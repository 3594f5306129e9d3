"""What the heads are called, here and elsewhere: read without importing torch, so that a typo is told at once."""

from collections.abc import Sequence
from pathlib import Path

from bisector.errors import plain, require, require_choice

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
