"""Options of a command in a YAML file, given with --config; what is typed wins."""

import argparse
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bisector.errors import missing_extra, require
from bisector.files import reading

FLAG = "--config"
_MAPPINGS = {"class_weights"}  # options that may be names with a number each


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the flag; `with_config` puts what the file says in its place."""
    parser.add_argument(FLAG, metavar="FILE", help="YAML file with any of these options; what is typed wins")


def with_config(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Return the words with what the file says before them, so that what was typed wins.

    Raises:
        ArgumentError: the file is no YAML of options, or has one that the command lacks.
        MissingExtraError: without PyYAML.
        OSError: the file cannot be read.
    """
    flags = {text: action for action in parser._actions for text in action.option_strings}
    if FLAG not in flags:
        return list(words)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument(FLAG, type=Path)
    try:
        found, rest = finder.parse_known_args(list(words))
    except argparse.ArgumentError:  # without a file, which the command's own parser says
        return list(words)
    if found.config is None:
        return list(words)
    return [
        word for name, value in _options(found.config).items() for word in _words(name, value, flags)
    ] + rest


def _options(path: Path) -> dict[Any, Any]:
    try:
        import yaml
    except ImportError:
        raise missing_extra("PyYAML", "train") from None
    with reading(f"{FLAG}: got {path}; expected YAML with a line for each option, as epochs: 10"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if content is not None and not isinstance(content, dict):
            raise TypeError(f"{type(content).__name__}, not options")
    return content or {}


def _words(name: Any, value: Any, flags: dict[str, argparse.Action]) -> list[str]:
    """What one would type for an option."""
    flag = f"--{str(name).replace('_', '-')}"
    legal = [known.removeprefix("--") for known in flags if known.startswith("--") and known != FLAG]
    near = difflib.get_close_matches(flag[2:], legal, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    require(flag in flags and flag != FLAG, FLAG, f"the option {name!r}", f"one that --help lists{hint}")
    if isinstance(value, bool):
        told = flag if value else f"--no-{flag[2:]}"
        return [told] if told in flags else []  # a flag that only switches on is off
    if isinstance(value, dict) and flags[flag].dest in _MAPPINGS:
        return [f"{flag}={json.dumps({str(key): number for key, number in value.items()})}"]
    plain = value is None or isinstance(value, (str, int, float, list))
    require(plain, FLAG, f"{name}: {value!r:.60}", "a text, a number, true or false, or a list of texts")
    text = "none" if value is None else ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return [f"{flag}={text}"]
