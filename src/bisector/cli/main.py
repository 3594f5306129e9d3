"""`bisector`: parse the command line, run a command, tell a user's mistake in one line."""

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bisector._version import __version__
from bisector.cli import adjust, bench, compare, demo, detect, embed, measure, report, train
from bisector.cli.config import with_config
from bisector.cli.output import with_nearest
from bisector.errors import ArgumentError, MissingExtraError, brief

COMMANDS = {
    "demo": demo,
    "train": train,
    "compare": compare,
    "embed": embed,
    "measure": measure,
    "adjust": adjust,
    "report": report,
    "detect": detect,
    "bench": bench,
}

RESUMED = ("demo", "train", "compare", "detect train", "detect compare", "detect demo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, or 2 for a user's mistake, or 130 when interrupted.

    Args:
        arguments: what follows ``bisector``; those of the process if None.
    """
    parser = _Parser(
        prog="bisector",
        description="Margin-based classification that is fair to every class.",
    )
    parser.add_argument("--version", action="version", version=f"bisector {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, command in COMMANDS.items():
        summary = (command.__doc__ or "").partition("\n")[0]
        command.add_arguments(commands.add_parser(name, help=summary, description=summary))
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["train"]:  # jsonargparse reads its words, with the Trainer's options among them
        parsed = argparse.Namespace(command="train", words=words[1:])
    else:
        try:
            read = _configured(parser, words)
        except (ArgumentError, MissingExtraError, OSError) as error:
            _tell(" ".join(["bisector", *words[: 1 + (words[0] == "detect")]]), str(error))
            return 2
        parsed, unknown = parser.parse_known_args(read)
        if unknown:
            _innermost(parser, parsed).error(f"unrecognized arguments: {' '.join(unknown)}")
    name = " ".join([parsed.command, *([parsed.action] if parsed.command == "detect" else [])])
    try:
        COMMANDS[parsed.command].run(parsed, command=shlex.join(["bisector", *words]))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the table has gone, as `| head` does; the files are written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ArgumentError, MissingExtraError, OSError) as error:
        _tell(f"bisector {name}", str(error))
        return 2
    except KeyboardInterrupt:
        again = "; the same command goes on where it was" if name in RESUMED else ""
        _tell(f"bisector {name}", f"interrupted{again}")
        return 130
    return 0


def _configured(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """Return the words with those of a file that is given with --config."""
    if not words or "--config" not in " ".join(words):
        return words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner = action.choices.get(words[0])
            return words if inner is None else [words[0], *_configured(inner, words[1:])]
    return with_config(parser, words)


def _innermost(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> argparse.ArgumentParser:
    """Return the parser of the command, or of its action, whose flags are meant."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return _innermost(action.choices[getattr(parsed, action.dest)], parsed)
    return parser


def _tell(program: str, message: str) -> None:
    print(f"{program}: error: {brief(' '.join(message.split()))}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, with the nearest legal word; it takes no abbreviations."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "allow_abbrev": False})

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        # Path("") is the folder that one is in: what a variable of the shell that is not set would ask for.
        if action.type is Path and not arg_string:
            raise argparse.ArgumentError(action, "got ''; expected a path")
        return super()._get_value(action, arg_string)

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            near = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), n=1)
            message += f"; did you mean {near[0]!r}?" if near else ""
        message = with_nearest(message, [flag for action in self._actions for flag in action.option_strings])
        _tell(self.prog, message)
        sys.exit(2)
