"""Commands for a reader to type, of which some words come from a file that anybody may have written."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Option: TypeAlias = "str | float | bool | Sequence[float] | None"


def command_line(words: str, *values: str, options: Mapping[str, Option] | None = None) -> str:
    """A command for a POSIX shell, in which no value can be anything but a value.

    Args:
        words: ours, taken as they are.
        values: positional arguments, quoted.
        options: by name with underscores; one that is None is left out, one that is False is `--no-NAME`.

    >>> command_line("bisector embed", "runs/my model", "--out=x", options={"image_size": 32, "pretrained": False})
    "bisector embed 'runs/my model' ./--out=x --image-size 32 --no-pretrained"
    """
    flags = (_flag(name.replace("_", "-"), value) for name, value in (options or {}).items())
    return " ".join([words, *map(quoted, values), *filter(None, flags)])


def quoted(value: str) -> str:
    """A path or name as one word of a shell; one that begins with a dash becomes a path that does not.

    >>> quoted("a b"), quoted("-x; y")
    ("'a b'", "'./-x; y'")
    """
    return shlex.quote(f"./{value}" if value.startswith("-") else value)


def column_options(command: str) -> dict[str, Option]:
    """The options of a command that say which columns of a table are meant.

    >>> column_options("bisector measure a.parquet --label 'the class' --embedding=v --seed 3")
    {'label': 'the class', 'embedding': 'v'}
    """
    try:
        words = shlex.split(command)
    except ValueError:  # of a file that anybody may have written
        return {}
    found: dict[str, Option] = {}
    for name in ("label", "embedding"):
        for word, following in zip(words, [*words[1:], ""], strict=False):
            if word == f"--{name}":
                found[name] = following
            elif word.startswith(f"--{name}="):
                found[name] = word.partition("=")[2]
    return found


def _number(value: float) -> str:
    short = f"{value:g}"
    return str(value) if isinstance(value, int) or float(short) != value else short


def _flag(name: str, value: Option) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, str):
        text = value
    else:
        text = ",".join(map(_number, [value] if isinstance(value, float | int) else value))
    # With an equals sign where argparse would take the value for a flag.
    return f"--{name}={shlex.quote(text)}" if text.startswith("-") else f"--{name} {shlex.quote(text)}"
