"""Files that are whole or not there."""

import csv
import io
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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
        # Names of files are not always text; what cannot be written is told by its bytes.
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


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
    """Write rows as CSV, whole or not at all.

    Raises:
        OSError: if the file cannot be written.
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue())
