"""The data sets that have a name: read without importing torch, so that a typo is told at once."""

import difflib
import re
from pathlib import Path

from bisector.errors import ArgumentError

DATA_SETS = ("digits", "fashion-mnist", "cifar10", "cifar100")
"""The names that `bisector.data.registry.load` knows."""


def require_data_name(data: str) -> None:
    """Raise `ArgumentError` for a word that is no name of a data set, and where nothing lies.

    >>> require_data_name("digit")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: data: got 'digit'; did you mean 'digits'? expected one of digits, fashion-mnist,
    cifar10, cifar100, or a path, but nothing is at that path
    """
    if data not in DATA_SETS and re.fullmatch(r"[\w-]+", data) and not Path(data).exists():
        raise unknown_data(data, "nothing is at that path")


def unknown_data(data: str, found: str) -> ArgumentError:
    """The error for data that are neither a name nor a path of a known kind.

    Args:
        data: what was given.
        found: what lies at that path, in words.
    """
    near = difflib.get_close_matches(data, DATA_SETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ArgumentError(
        f"data: got {data!r}; {hint}expected one of {', '.join(DATA_SETS)}, or a path, but {found}"
    )
