"""`bisector`: parse the command line, run a command, tell a user's mistake in one line."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from bisector._version import __version__
from bisector.cli import (
    adjust,
    bench,
    compare,
    completion,
    demo,
    detect,
    doctor,
    embed,
    export,
    measure,
    predict,
    report,
    train,
)
from bisector.cli.config import with_config
from bisector.cli.output import answered
from bisector.cli.program import Parser, exit_code

COMMANDS = {
    "demo": demo,
    "train": train,
    "compare": compare,
    "predict": predict,
    "export": export,
    "embed": embed,
    "measure": measure,
    "adjust": adjust,
    "report": report,
    "detect": detect,
    "bench": bench,
    "doctor": doctor,
    "completion": completion,
}

RESUMED = ("demo", "train", "compare", "detect train", "detect compare")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, or 2 for a user's mistake, or 130 when interrupted.

    Args:
        arguments: what follows ``bisector``; those of the process if None.
    """
    parser = command_parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["train"]:  # jsonargparse reads its words, with the Trainer's options among them
        parsed = argparse.Namespace(command="train", words=words[1:])
    else:
        read: list[str] = []
        program = " ".join(["bisector", *words[: 1 + (words[:1] == ["detect"])]])
        failed = exit_code(program, lambda: read.extend(_configured(parser, words)))
        if failed:
            return failed
        parsed, unknown = parser.parse_known_args(read)
        if unknown:
            _innermost(parser, parsed).error(f"unrecognized arguments: {' '.join(unknown)}")
    name = " ".join([parsed.command, *([parsed.action] if parsed.command == "detect" else [])])
    typed = shlex.join(["bisector", *words])
    again = "; the same command goes on where it was" if name in RESUMED else "; the same command begins anew"
    return exit_code(
        f"bisector {name}",
        lambda: answered(
            lambda: COMMANDS[parsed.command].run(parsed, command=typed),
            as_json=getattr(parsed, "json", False),
        ),
        interrupted=f"interrupted{again}",
    )


def command_parser() -> Parser:
    """Return the parser of all commands but `train`, whose words are read by `bisector.cli.train.parse`."""
    parser = Parser(
        prog="bisector",
        description="Margin-based classification that is fair to every class.",
    )
    parser.add_argument("--version", action="version", version=f"bisector {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, command in COMMANDS.items():
        summary = (command.__doc__ or "").partition("\n")[0]
        command.add_arguments(commands.add_parser(name, help=summary, description=summary))
    return parser


def _configured(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """Return the words with those of a file that is given with --config."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner = action.choices.get(words[0]) if words else None
            return words if inner is None else [words[0], *_configured(inner, words[1:])]
    return with_config(parser, words)


def _innermost(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> argparse.ArgumentParser:
    """Return the parser of the command, or of its action, whose flags are meant."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return _innermost(action.choices[getattr(parsed, action.dest)], parsed)
    return parser
