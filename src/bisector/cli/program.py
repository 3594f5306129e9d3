"""Parse a command line and run it so that a user's mistake is one line and an exit code of 2."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from bisector.cli.output import with_nearest
from bisector.errors import ArgumentError, MissingExtraError, brief


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, with the nearest legal word; it takes no abbreviations."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "allow_abbrev": False})

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        # Path("") is the folder that one is in: what a variable of the shell that is not set would ask for.
        if action.type is Path and not arg_string:
            raise argparse.ArgumentError(action, "got ''; expected a path")
        return super()._get_value(action, arg_string)

    def error(self, message: str) -> NoReturn:
        """Print the complaint and exit with 2."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            near = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), n=1)
            message += f"; did you mean {near[0]!r}?" if near else ""
        message = with_nearest(message, [flag for action in self._actions for flag in action.option_strings])
        _print_line(f"{self.prog}: error: {message}")
        sys.exit(2)


def exit_code(program: str, run: Callable[[], object], *, interrupted: str = "interrupted") -> int:
    """Run something; return 0, or print one line and return 2 for a user's mistake, or 130 when interrupted.

    Args:
        program: with what the line begins.
        run: what is to be done; where what it returns has an `exit_code`, that is returned.
        interrupted: what to say after Ctrl-C, unless the `KeyboardInterrupt` itself says how to go on.
    """
    code = 0
    try:
        code = getattr(run(), "exit_code", 0)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the table has gone, as `| head` does; the files are written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ArgumentError, MissingExtraError, OSError) as error:
        _print_line(f"{program}: error: {error}")
        return 2
    except KeyboardInterrupt as stop:
        _print_line(f"{program}: {f'interrupted; {stop}' if stop.args else interrupted}")
        # An interrupt within exec of a string, as in making a dataclass while PyTorch is imported, leaves a flag by
        # which `python -m` kills itself with SIGINT in the end, whatever was caught; the next exec takes it away.
        exec("")
        return 130
    return code


def _print_line(message: str) -> None:
    print(brief(" ".join(message.split())), file=sys.stderr)
