"""Files that are whole or not there, and what is told of those that are damaged all the same."""

import csv
import errno
import hashlib
import io
import json
import os
import platform
import re
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from bisector.errors import ArgumentError, DamagedFileError, MissingExtraError, missing_extra

Read = TypeVar("Read")

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]

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
        # Names of files are not always text; what cannot be written is told by its bytes.
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which is at its path when all is written; as `write_whole`, for what is large.

    The draft is beside it, with a dot before its name. It stays there if its writer is killed, until the same file
    is written again: drafts of writers of this machine that are gone are removed. Those of other machines stay, and
    so do all where the file system has no locks.

    Raises:
        OSError: if the file cannot be written.
    """
    _sweep(path)
    draft, file = _draft(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if (
                os.name == "nt"
            ):  # where nothing that is open can be moved; elsewhere the lock shall hold until then
                file.close()
            draft.replace(path)
    except (OSError, RuntimeError) as error:
        # PyTorch says RuntimeError where it could not write, and a full disk does not say which file was too large.
        found = error if isinstance(error, OSError) else error.__context__
        if isinstance(found, OSError) and found.filename is None and found.errno is not None:
            raise OSError(found.errno, os.strerror(found.errno), str(path)) from None
        raise
    finally:
        draft.unlink(missing_ok=True)


def _draft(path: Path) -> tuple[Path, BinaryIO]:
    """Open a new file beside the path and lock it, for as long as this process lives."""
    while True:
        draft = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        file = draft.open("wb")
        if not _locked(file, wait=True) or os.fstat(file.fileno()).st_nlink:
            return draft, file
        file.close()  # swept away before it was locked


def _sweep(path: Path) -> None:
    """Remove the drafts of a file whose writers are gone: those of this machine that nobody holds a lock on.

    A process can't be told by its number alone, which another machine or container gives to another, and again.
    """
    begin = f".{path.name}.{_HOST}-"
    with suppress(OSError):  # tidying up is no reason to fail
        for draft in path.parent.iterdir():
            if draft.name.startswith(begin) and re.fullmatch(r"\d+-[0-9a-f]{8}", draft.name[len(begin) :]):
                # Open for writing, without which network file systems lock nothing.
                with suppress(OSError), draft.open("r+b") as file:
                    if _locked(file):
                        draft.unlink()


def _locked(file: BinaryIO, *, wait: bool = False) -> bool:
    """Lock a file for this process alone; False where somebody else holds it, or where there are no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


@contextmanager
def reading(complaint: str) -> Iterator[None]:
    """Raise `DamagedFileError` for whatever goes wrong meanwhile, but `OSError` where the file may well be whole.

    What was cut off, overwritten or made by somebody else raises anything from anywhere. A disk, a network or a
    memory that fails for now is no fault of the file: nothing is to be made again for that.

    Args:
        complaint: which file it is and what was expected; the reason is added.

    >>> with reading("results: got a.json; expected numbers"):
    ...     json.loads("[1, 2")["three"]
    Traceback (most recent call last):
    bisector.errors.DamagedFileError: results: got a.json; expected numbers (Expecting ',' delimiter: ...)
    """
    try:
        yield
    except (DamagedFileError, MissingExtraError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        failed = _failure(error)
        if failed is not None:
            raise OSError(failed, os.strerror(failed), complaint) from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFileError(f"{complaint} ({reason[:200]})") from None


def _failure(error: Exception) -> int | None:
    """What failed of the machine, as the system numbers it; None where the content was at fault."""
    if isinstance(
        error, OSError
    ):  # a place that a damaged file told, before its begin, is no argument for the system
        return None if error.errno == errno.EINVAL else error.errno
    text = str(error).lower()
    allocator = isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)
    return errno.ENOMEM if isinstance(error, MemoryError) or allocator else None


def read_json(path: Path) -> Any:
    """Read JSON; within `reading`.

    Raises:
        OSError: if the file cannot be read.
    """
    return json.loads(path.read_bytes())


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a dictionary that `torch.save` wrote, to the CPU; within `reading`. A bit that flipped is found.

    Raises:
        OSError: if the file cannot be read.
    """
    import torch

    with zipfile.ZipFile(path) as packed:  # PyTorch itself does not look at the checksums
        damaged = packed.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise TypeError(f"{type(content).__name__}, not a dictionary")
    return content


def read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the tensors of a safetensors file, to the CPU, and the texts beside them; within `reading`.

    Raises:
        MissingExtraError: safetensors is not installed.
        OSError: the file cannot be read.
    """
    with require_safetensors().safe_open(str(path), "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def write_safetensors(path: Path, tensors: Mapping[str, Any], texts: dict[str, str]) -> None:
    """Write tensors and texts as one safetensors file, whole or not at all.

    Raises:
        MissingExtraError: safetensors is not installed.
        OSError: the file cannot be written.
    """
    require_safetensors()
    from safetensors.torch import save

    write_whole(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, texts))


def require_safetensors(extra: str = "measure") -> Any:
    """Return the package safetensors.

    Args:
        extra: of bisector that brings it, for the message.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import safetensors
    except ImportError:
        raise missing_extra("safetensors", extra) from None
    return safetensors


def read_or_none(path: Path, read: Callable[[Path], Read], then: str = "made again") -> Read | None:
    """Read a file that one can do without: None where it is not there, and where it is damaged, which is noted."""
    if not path.is_file():
        return None
    try:
        return read(path)
    except ArgumentError as error:
        note(f"{error}: {then}")
        return None


def note(line: str) -> None:
    """Say on stderr what the user should know of files."""
    print(f"bisector: {line}", file=sys.stderr)


def place_of(path: Path) -> Path:
    """Return where a path leads, links followed; a link that loops leads to itself.

    >>> place_of(Path("/tmp/../a"))
    PosixPath('/a')
    """
    return Path(os.path.realpath(path))


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, whole or not at all; no spreadsheet runs what a cell holds (`harmless`).

    Raises:
        OSError: if the file cannot be written.
    """
    write_whole(path, csv_text(rows))


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as the text of a CSV file; no spreadsheet runs what a cell holds (`harmless`).

    >>> print(csv_text([("name", "count"), ("=owl, barn", 3)]).strip())
    name,count
    "'=owl, barn",3
    """
    safe = ([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # only with its own line ends does it quote names that hold any
    for row in safe:
        writer.writerow(row)
        text.seek(text.tell() - len("\r\n"))
        text.write("\n")
        text.truncate()
    return text.getvalue()


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
        try:
            rows = [
                {name: original(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
                for row in reader
            ]
        except csv.Error as error:
            raise csv.Error(f"line {reader.line_num + 1}: {error}") from None
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
