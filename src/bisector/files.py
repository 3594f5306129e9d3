"""Files that are whole or not there."""

import csv
import io
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

# Where a spreadsheet sees a cell begin (also at ";" and tab, by which some split), what makes it run the cell.
_BEGINS = r"(?:^|(?<=[;\t\r\n]))"
_RUNS = r"(?='*\s*[=+\-@＝＋－＠\t\r\n])"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that whoever is killed in the middle, or reads meanwhile, finds the old one or the new one.

    Raises:
        OSError: if the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.txt", "all of it")
    ...     (Path(folder) / "a.txt").read_text()
    'all of it'
    """
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which is at its path when all is written; as `write_whole`, for what is large.

    The draft is beside it, with a dot before its name, and stays there if its writer is killed.

    Raises:
        OSError: if the file cannot be written.
    """
    # Not by the process alone: those of two machines can have the same number.
    draft = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, whole or not at all; no spreadsheet runs what a cell holds (`harmless`).

    Raises:
        OSError: if the file cannot be written.
    """
    safe = ([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # only with its own line ends does it quote names that hold any
    for row in safe:
        writer.writerow(row)
        text.seek(text.tell() - len("\r\n"))
        text.write("\n")
        text.truncate()
    write_whole(path, text.getvalue())


def read_rows(path: Path, *, delimiter: str = ",") -> tuple[list[str], list[dict[Any, Any]]]:
    """Read the headings of a CSV file and its rows by heading, names as they were before `write_rows`.

    As `csv.DictReader`: what a row lacks is None, what it has too much is under None.

    Raises:
        OSError: if the file cannot be read.
        csv.Error: if it is no CSV.
        UnicodeDecodeError: if it is not UTF-8.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        headings = reader.fieldnames = [original(heading) for heading in reader.fieldnames or ()]
        rows = [
            {name: original(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
            for row in reader
        ]
    return headings, rows


def harmless(text: str) -> str:
    """Return the text of a cell with an apostrophe before what a spreadsheet would run as a formula.

    Numbers stay as they are, and so does all that could not be run; `original` takes the apostrophe away.

    >>> harmless("=cmd|' /C calc'!A0"), harmless("-0.5"), harmless("owl"), harmless("'=x")
    ("'=cmd|' /C calc'!A0", '-0.5', 'owl', "''=x")
    """
    return text if _NUMBER.fullmatch(text) else re.sub(_BEGINS + _RUNS, "'", text)


def original(cell: str) -> str:
    """Return the text that `harmless` made a cell of; another text as it is.

    >>> original("'=x"), original("'tis")
    ('=x', "'tis")
    """
    return re.sub(f"{_BEGINS}'{_RUNS}", "", cell)
