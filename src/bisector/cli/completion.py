"""Print the script that makes bash, zsh or fish complete on TAB.

Commands, options, names of heads and data sets, and files are completed.
"""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from bisector.cli import train
from bisector.data.places import DATA_SETS
from bisector.errors import MissingExtraError, missing_extra
from bisector.heads import HEAD_NAMES
from bisector.training.recipe import DECISIONS

SHELLS = ("bash", "zsh", "fish")

NAMES = {"--head": HEAD_NAMES, "--heads": HEAD_NAMES, "--planes": HEAD_NAMES, "--decide": DECISIONS}
"""What options take that have no `choices`, since more may follow a name."""

OF_FILES = {"--out", "--config", "--data", "data", "file", "model", "results"}
"""What takes a file and is no `Path`, since it may be a name or an address as well."""

_WORDS = " ".join(DATA_SETS)
_FUNCTIONS = {
    "bash": f'_bisector_data_file() {{ compgen -W "{_WORDS}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": f"_bisector_data_file() {{ _alternative 'names:data set:({_WORDS})' 'files:file:_files' }}",
}
_NAME_OR_FILE = {  # of data
    "bash": "_bisector_data_file",
    "zsh": "_bisector_data_file",
    "fish": f"(printf '%s\\n' {_WORDS}; __fish_complete_path (commandline -ct))",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector completion``."""
    parser.add_argument("shell", choices=SHELLS, help="whose script is printed")


def run(arguments: argparse.Namespace, command: str) -> None:
    """Print the script."""
    from bisector.cli.main import command_parser

    parser = command_parser()
    with suppress(MissingExtraError):  # without jsonargparse nobody trains
        training = _commands(parser)["train"] = train.own_parser()
        training.description, *_ = (train.__doc__ or "").splitlines()  # as the others have
    print(script(parser, arguments.shell))


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell, made from a parser and those of its commands.

    Raises:
        MissingExtraError: without shtab.
    """
    try:
        import shtab
    except ImportError:
        raise missing_extra("shtab", "completion") from None
    _complete(parser)
    preamble: Any = _FUNCTIONS  # a text for each shell
    text = str(shtab.complete(parser, shell, preamble=preamble))
    # A file that zsh is told to source registers nothing else: it takes itself for one of $fpath.
    return text.replace("[[ $zsh_eval_context[-1] == eval ]]", "[[ $zsh_eval_context[-1] == (eval|file) ]]")


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a parser's commands, by name; no copy."""
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return found[0].choices if found else {}


def _complete(parser: argparse.ArgumentParser) -> None:
    """Tell shtab what each option takes: names, files, or both."""
    import shtab

    for action in parser._actions:
        called = {*action.option_strings, action.dest}
        for name in called & NAMES.keys():
            action.choices = action.choices or NAMES[name]
        if called & {"--data", "data"} and " detect " not in f"{parser.prog} ":
            action.complete = _NAME_OR_FILE  # type: ignore[attr-defined]
        elif action.type is Path or called & OF_FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    for inner in _commands(parser).values():
        _complete(inner)
