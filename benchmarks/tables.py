"""Tables for a terminal and for a page, and the files that hold what a benchmark found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bisector.benchmarks.machine import Description
from bisector.files import write_whole


@dataclass(frozen=True)
class Table:
    """A title, headings, rows of words (the first to the left, the others to the right) and what they mean.

    >>> print(Table("Sizes", ["", "bytes"], [["a", "1"], ["b", "1,000"]]).text())
    Sizes
       bytes
    ────────
    a      1
    b  1,000
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def text(self) -> str:
        """Return it with aligned columns."""
        widths = [max(map(len, column)) for column in zip(self.headings, *self.rows, strict=True)]
        ruler = "─" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [_aligned(self.headings, widths), ruler, *(_aligned(row, widths) for row in self.rows)]
        return "\n".join([self.title, *lines, *self.notes])

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [_bars(self.headings), "|---" + "|---:" * (len(self.headings) - 1) + "|"]
        parts = [f"## {self.title}", "\n".join([*lines, *map(_bars, self.rows)]), *self.notes]
        return "\n\n".join(parts)


def write_found(
    name: str,
    tables: Sequence[Table],
    found: Mapping[str, Any],
    machine: Description,
    command: str,
    folder: Path,
) -> list[Path]:
    """Write NAME.md, with the tables, and NAME.json, with every number.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    head = [
        f"# benchmarks/{name}",
        "\n".join(f"- {line}" for line in machine.lines()),
        f"```console\n$ {command}\n```",
    ]
    page = "\n\n".join([*head, *(table.markdown() for table in tables)])
    data = {"version": 1, "command": command, "machine": asdict(machine), **found}
    files = [folder / f"{name}.md", folder / f"{name}.json"]
    write_whole(files[0], page + "\n")
    write_whole(files[1], json.dumps(data, indent=1) + "\n")
    return files


def seconds(value: float) -> str:
    """Return a time with three figures or so.

    >>> seconds(0.01234), seconds(1.234), seconds(123.4)
    ('0.0123', '1.23', '123')
    """
    size = abs(value)
    return f"{value:.4f}" if size < 0.1 else f"{value:.3g}" if size < 100 else f"{value:,.0f}"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _bars(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
