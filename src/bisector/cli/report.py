"""Print the tables and write the pages of a comparison again, from its comparison.json alone."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from bisector.cli.output import add_json, require_folder, say
from bisector.errors import ArgumentError, require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector report``."""
    parser.add_argument("results", type=Path, help="comparison.json, or the folder that holds it")
    parser.add_argument(
        "--baseline", help="the head from which differences are taken (default: that of the comparison)"
    )
    parser.add_argument("--out", type=Path, help="folder to write to (default: where the results are)")
    add_json(parser)


def run(arguments: argparse.Namespace, command: str) -> Any:
    """Read, print, write."""
    given: Path = arguments.results
    file = given / "comparison.json" if given.is_dir() else given
    out: Path = arguments.out or file.parent
    require_folder(out)
    require(
        file.is_file(), "results", given, "comparison.json of bisector compare, or the folder that holds it"
    )

    from dataclasses import replace

    from bisector.report.comparison import write_outputs
    from bisector.training.results import Comparison

    comparison = Comparison.read(file)
    if arguments.baseline is not None:
        heads = comparison.heads
        if arguments.baseline not in heads:
            raise ArgumentError(f"--baseline: got {arguments.baseline!r}; expected one of {', '.join(heads)}")
        comparison = replace(comparison, baseline=arguments.baseline)
    out.mkdir(parents=True, exist_ok=True)
    say(write_outputs(comparison, out, width=max(60, shutil.get_terminal_size((160, 24)).columns)))
    return comparison
