"""Files that are whole or not there."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path


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
    raw = content.encode() if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, whole or not at all.

    Raises:
        OSError: if the file cannot be written.
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue())
