"""What every command does with its folder and its words."""

import difflib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.errors import ArgumentError, require

if TYPE_CHECKING:
    import torch


def require_folder(path: Path, expected: str = "a folder, which is made") -> None:
    """Raise where no folder can be, because a file is in its way or none may be written there.

    Args:
        path: of the folder.
        expected: what `--out` should be.

    Raises:
        ArgumentError: a file is in its way.
        PermissionError: nothing may be written there.
    """
    in_the_way = next((place for place in (path, *path.parents) if place.is_file()), None)
    require(in_the_way is None, "--out", f"{path}, but {in_the_way} is a file", expected)
    there = next((place for place in (path, *path.parents) if place.is_dir()), None)
    if there is not None and not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def require_file(path: Path) -> None:
    """Raise `ArgumentError` where a folder is in the way of a file, or a file in the way of its folder."""
    require_folder(path.parent, "a file to write in a folder, which is made")
    require(not path.is_dir(), "--out", f"{path}, a folder", "a file to write")


def device_of(word: str | None) -> "torch.device | None":
    """Return the device that `--device` names; None if it is not given.

    Raises:
        ArgumentError: it names none.
    """
    import torch

    try:
        return None if word is None else torch.device(word)
    except RuntimeError:
        raise ArgumentError(f"--device: got {word!r}; expected cpu, cuda or cuda:1") from None


def tell(command: str, *lines: str) -> None:
    """Print lines on stderr, each after the name of the command; empty ones are none."""
    for line in filter(None, lines):
        print(f"bisector {command}: {line}", file=sys.stderr)


def say(text: str) -> None:
    """Print; a terminal that knows no ± shall not cost the table."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    print(text)


def add_json(parser: Any) -> None:
    """Add the flag of a command whose `run` returns a record; `answered` prints it."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object, the record of what was found, and all words on stderr",
    )


def answered(work: Callable[[], Any], *, as_json: bool) -> Any:
    """Do the work of a command and return its record; with `as_json`, stdout holds that record alone.

    Args:
        work: prints for people and returns a dataclass or dictionary, or None where there is nothing to tell.
        as_json: whether a script reads.

    >>> record = answered(lambda: print("for people") or {"rows": 3}, as_json=True)
    {
     "rows": 3
    }
    """
    if not as_json:
        return work()
    from bisector.records import to_json

    with redirect_stdout(sys.stderr):
        record = work()
    if record is None:  # of a process that trains along with another one
        return None
    # Names of files are not always text, and a pipe may not take all letters: JSON says them in ASCII.
    print(json.dumps(to_json(record), indent=1, allow_nan=False))
    return record


def progress(text: str) -> None:
    """Show one passing line to whoever sits at a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def with_nearest(complaint: str, flags: Sequence[str]) -> str:
    """Add the flag that was probably meant to a complaint about one that there is not.

    >>> with_nearest("unrecognized arguments: --epohcs 3", ["--epochs", "--out"])
    "unrecognized arguments: --epohcs 3; did you mean '--epochs'?"
    """
    wrong = re.search(r"unrecognized arguments: (--[\w.-]+)", complaint)
    near = difflib.get_close_matches(wrong[1], flags, n=1) if wrong else []
    return f"{complaint}; did you mean {near[0]!r}?" if near else complaint
