"""What the backbones are called: read without importing torch, so that a typo is told at once."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bisector.errors import require_choice

DEPTHS = (20, 32, 44, 56, 110)
"""Those of the residual networks for CIFAR."""

OWN = (
    "small-conv",
    *(f"resnet{depth}" for depth in DEPTHS),
    "mlp",
    "identity",
)
"""The networks that are built here."""

LIBRARIES = ("torchvision", "timm")
"""The libraries whose networks are backbones, ``"library/NAME"``."""

BACKBONES = (*OWN, "torchvision/NAME", "timm/NAME", "auto")
"""The names that `build_backbone` knows."""


def require_backbone(spec: str) -> None:
    """Raise `ArgumentError` for a backbone or a library that there is not, before any data are read.

    Whether a library has a network of this name is known to itself alone, when it is asked for it.

    >>> require_backbone("small-con")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: backbone: got 'small-con'; did you mean 'small-conv'? expected one of ...
    """
    library, slash, _ = spec.strip().partition("/")
    name = library.partition(":")[0]
    if slash:
        require_choice(f"library of backbone {spec!r}", library, LIBRARIES)
    elif name != "auto":
        require_choice("backbone", name, BACKBONES, [] if name in OWN else _meant(name))


def _meant(name: str) -> list[str]:
    """Return what a wrong name may stand for: networks of libraries, else the residual one of nearest depth."""
    depth = re.fullmatch(r"resnet-?(\d{1,4})", name.lower())
    near = [] if depth is None else [min(DEPTHS, key=lambda legal: abs(legal - int(depth[1])))]
    return libraries_with(name) or [f"resnet{legal}" for legal in near]


def chosen_backbone(spec: str, shape: Sequence[int]) -> str:
    """Return the spec with the name that "auto" stands for with examples of this shape.

    >>> chosen_backbone("auto:width=64", (3, 32, 32)), chosen_backbone("auto", (768,))
    ('small-conv:width=64', 'mlp')
    """
    name, colon, options = spec.strip().partition(":")
    return ("small-conv" if len(shape) == 3 else "mlp") + colon + options if name == "auto" else spec


def libraries_with(name: str) -> list[str]:
    """Return the specs of the networks that torchvision and timm have under a bare name, where they are installed.

    Their source is searched: to import both takes many seconds.

    >>> libraries_with("resnet18")
    ['torchvision/resnet18', 'timm/resnet18']
    """
    registered = re.compile(rf"^@register_model.*\n(?:@.*\n)*def {re.escape(name)}\(", re.MULTILINE)
    found = []
    for library in LIBRARIES:
        spec = find_spec(library)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            files = Path(folder, "models").glob("*.py")
            if any(registered.search(file.read_text("utf-8", "replace")) for file in files):
                found.append(f"{library}/{name}")
                break
    return found
