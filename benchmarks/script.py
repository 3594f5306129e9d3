"""Run a benchmark as a program: read its flags, print the machine and the tables, write them to files."""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import Table, write_found
from bisector.benchmarks.machine import describe_machine
from bisector.benchmarks.timing import threads
from bisector.cli.output import progress, require_folder, say
from bisector.cli.program import Parser, exit_code
from bisector.cores import require_tasks
from bisector.errors import require, require_integer

PACKAGES = (
    "torch",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "perceptual-manifold-geometry",
    "lightning",
    "torchvision",
)


class Script:
    """One benchmark as a program.

    Args:
        name: of the module; also what its files are called.
        text: what it measures, for its help.

    Attributes:
        parser: to which flags are added.
        tables: those that were shown.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.parser = Parser(prog=f"python -m benchmarks.{name}", description=text)
        self.tables: list[Table] = []

    def main(
        self, measure: Callable[[argparse.Namespace], Mapping[str, Any]], words: Sequence[str] | None
    ) -> int:
        """Read the flags, measure, and write what was found where --out says; return the exit code.

        Args:
            measure: prints the machine with `begin` and tables with `show`, and returns all numbers for JSON.
            words: what follows the script's name; those of the process if None.
        """
        self.parser.add_argument("--threads", type=int, help="of the CPU (default: PyTorch's own choice)")
        self.parser.add_argument(
            "--out", type=Path, help="folder for the tables as .md and all numbers as .json"
        )
        words = sys.argv[1:] if words is None else words
        arguments = self.parser.parse_args(words)
        return exit_code(self.parser.prog, lambda: self._run(measure, arguments, words))

    def begin(self, device: str = "cpu") -> None:
        """Print the machine."""
        self.machine = describe_machine(torch.device(device), PACKAGES)
        say("\n".join(self.machine.lines()))

    def show(self, table: Table) -> None:
        """Print a table; it is also written where --out says."""
        progress("")
        say(f"\n{table.text()}")
        self.tables.append(table)

    def _run(
        self,
        measure: Callable[[argparse.Namespace], Mapping[str, Any]],
        arguments: argparse.Namespace,
        words: Sequence[str],
    ) -> None:
        self.tables = []
        if hasattr(arguments, "repeats"):
            require_integer("--repeats", arguments.repeats, least=1)
        if arguments.threads is not None:
            require_tasks("--threads", arguments.threads)
        if arguments.out is not None:
            require_folder(arguments.out)
        cuda = getattr(arguments, "device", "cpu") != "cuda" or torch.cuda.is_available()
        require(cuda, "--device", "'cuda'", "cpu: this machine has no GPU that PyTorch can use")
        with threads(arguments.threads):
            record = measure(arguments)
        if arguments.out is not None:
            command = f"{self.parser.prog} {without_folders(words)}"
            files = write_found(self.name, self.tables, record, self.machine, command, arguments.out)
            say(f"\nWritten: {', '.join(str(file) for file in files)}")


def without_folders(words: Sequence[str]) -> str:
    """Return a command line without its folders, which are nobody else's.

    >>> without_folders(["--out", "here", "--rows", "9", "--folder=my disk"])
    '--rows 9'
    """
    kept: list[str] = []
    left = iter(words)
    for word in left:
        if word in {"--out", "--folder"}:
            next(left, None)
        elif not word.startswith(("--out=", "--folder=")):
            kept.append(word)
    return shlex.join(kept)


def listed(text: str, option: str) -> list[str]:
    """Return the words of an option with commas between them, each once.

    Raises:
        ArgumentError: there is none.
    """
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    require(bool(words), option, repr(text), "one or more, commas between")
    return words
