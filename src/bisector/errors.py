"""The errors of bisector and the few words that raise them.

Every complaint about an argument reads the same way: which argument, what it was, what is legal.

>>> require(3 > 5, "margin", 3, "a number above 5")
Traceback (most recent call last):
bisector.errors.ArgumentError: margin: got 3; expected a number above 5
"""

import contextlib
import difflib
import json
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TypeVar

Choice = TypeVar("Choice", bound=str)


class ArgumentError(ValueError):
    """An argument is not legal. The message names it, its value and what is legal; long names in it are cut."""

    def __init__(self, message: str) -> None:
        super().__init__(brief(message))


class DamagedFileError(ArgumentError):
    """A file of bisector's does not hold what was written to it. The message names it."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed. The message names the extra that brings it."""


def brief(message: str) -> str:
    """Return a message with only the beginning and the end of long words, and of a long whole.

    >>> len(brief(f"head: got {'x' * 5000!r}; expected igam"))
    389
    """
    return _cut(re.sub(r"\S{400,}", lambda word: _cut(word[0], 180, 180), message), 900, 600)


def _cut(text: str, first: int, last: int) -> str:
    return text if len(text) <= first + last + 5 else f"{text[:first]} ... {text[-last:]}"


def require(condition: bool, name: str, got: object, expected: str) -> None:
    """Raise `ArgumentError` unless `condition` holds."""
    if not condition:
        raise ArgumentError(f"{name}: got {got}; expected {expected}")


def require_number(
    name: str,
    got: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
) -> float:
    """Return `got` as a float if it is a finite number within the bounds.

    >>> require_number("margin", "wide", least=0)
    Traceback (most recent call last):
    bisector.errors.ArgumentError: margin: got 'wide'; expected a finite number of at least 0
    """
    bounds = [f"above {above:g}"] if above > -math.inf else []
    bounds += [f"of at least {least:g}"] if least > -math.inf else []
    bounds += [f"of at most {most:g}"] if most < math.inf else []
    legal = f"a finite number {' and '.join(bounds)}".strip()
    number = float(got) if isinstance(got, Real) and not isinstance(got, bool) else math.nan
    require(math.isfinite(number) and above < number and least <= number <= most, name, repr(got), legal)
    return number


def require_integer(name: str, got: object, *, least: int, most: int | None = None) -> int:
    """Return `got` if it is an integer within the bounds.

    >>> require_integer("workers", 100_000, least=0, most=256)
    Traceback (most recent call last):
    bisector.errors.ArgumentError: workers: got 100000; expected an integer of at least 0 and of at most 256
    """
    whole = isinstance(got, Integral) and not isinstance(got, bool)
    if whole and int(got) >= least and (most is None or int(got) <= most):  # type: ignore[call-overload]
        return int(got)  # type: ignore[call-overload, no-any-return]
    legal = f"of at least {least}" + ("" if most is None else f" and of at most {most}")
    raise ArgumentError(f"{name}: got {got!r}; expected an integer {legal}")


def require_choice(name: str, got: str, legal: Iterable[Choice], meant: Sequence[str] = ()) -> Choice:
    """Return `got` if it is one of `legal`; otherwise name the nearest legal value.

    Args:
        name: of the argument.
        got: its value.
        legal: what it may be.
        meant: what such a word stands for, where the caller knows; else the nearest of `legal` is named.

    >>> require_choice("shrinkage", "oaz", ["none", "oas"])
    Traceback (most recent call last):
    bisector.errors.ArgumentError: shrinkage: got 'oaz'; did you mean 'oas'? expected one of none, oas
    """
    choices = list(legal)
    for choice in choices:
        if choice == got:
            return choice
    exact = [choice for choice in choices if plain(choice) == plain(str(got))]
    near = meant or exact or difflib.get_close_matches(str(got), choices, n=1)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ArgumentError(f"{name}: got {got!r}; {hint}expected one of {', '.join(choices)}")


def plain(word: str) -> str:
    """Return a name as people type it who do not look it up: in lower case, with hyphens.

    >>> plain("AM_Softmax")
    'am-softmax'
    """
    return word.strip().lower().replace("_", "-").replace(" ", "-")


def parsed_options(name: str, spec: str, assignments: Iterable[str]) -> dict[str, str]:
    """Return the options of a spec such as ``igam:preset=paper``, as text.

    Args:
        name: of the argument.
        spec: as it was typed.
        assignments: what follows its name, at the colons.

    Raises:
        ArgumentError: one is not ``option=value``, or gives an option twice.

    >>> parsed_options("head", "igam:preset=paper", ["preset=paper"])
    {'preset': 'paper'}
    """
    options: dict[str, str] = {}
    for text in assignments:
        option, equals, value = text.partition("=")
        require(bool(option and equals and value), name, f"{text!r} in {spec!r}", "name:option=value")
        require(option not in options, name, f"{option} twice in {spec!r}", "each option once")
        options[option] = value
    return options


def reason_of(error: Exception, *, whole: bool = True) -> str:
    r"""Return what an error says, in one line: its first one, or all of them joined.

    >>> reason_of(OSError("no room\nfor it")), reason_of(OSError("no room\nfor it"), whole=False)
    ('no room for it', 'no room')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(" ".join(lines).split()) if whole else lines[0]


def missing_extra(package: str, extra: str) -> MissingExtraError:
    """The error for an optional package that is not installed."""
    return MissingExtraError(f"{package} is not installed; it comes with: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Return what brings the packages of an extra: from the folder that bisector runs in or was installed from.

    Where neither is there it is taken from an index, by its name.
    """
    from importlib.metadata import (  # tens of milliseconds, for a mistake alone
        PackageNotFoundError,
        distribution,
    )
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    own, kept = Path(__file__).resolve().parents[2], ""
    with contextlib.suppress(PackageNotFoundError):
        kept = distribution("bisector").read_text("direct_url.json") or ""
    editable = (own / "pyproject.toml").is_file()
    source = own if editable else Path(url2pathname(urlsplit(json.loads(kept or "{}").get("url", "")).path))
    there = (source / "pyproject.toml").is_file() and source.is_absolute()
    asked = f"{source if there else 'bisector'}[{extra}]"
    return f"pip install {'-e ' * editable}{shlex.quote(asked)}"
