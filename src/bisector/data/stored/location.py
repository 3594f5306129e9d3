"""Where files lie: a path of this machine, or a URL that pyarrow or fsspec can open."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from bisector.data.places import files_below
from bisector.errors import ArgumentError, missing_extra

try:
    import pyarrow as pa
    from pyarrow import fs
except ImportError:
    raise missing_extra("pyarrow", "measure") from None


@dataclass(frozen=True)
class Location:
    """A file or folder, in words that another process understands too.

    Args:
        url: as it was given; empty for a path of this machine.
        path: of the file or folder in its file system.
    """

    url: str
    path: str

    def is_folder(self) -> bool:
        """Whether it is a folder.

        Raises:
            ArgumentError: nothing is there, or it cannot be reached.
        """
        try:
            kind = _system(self.url)[0].get_file_info(self._named(self.path)).type
        except (pa.ArrowException, OSError) as error:
            raise self._unreachable(error) from None
        if kind == fs.FileType.NotFound:
            raise ArgumentError(f"file: got {self}, which is not there; expected an embeddings table")
        return bool(kind == fs.FileType.Directory)

    def files(self) -> list[str]:
        """Every file in the folder and the folders in it, but for what is hidden.

        A name that begins with a dot or an underscore, of a file or of a folder below this one, hides: what Jupyter
        and Spark leave there (.ipynb_checkpoints, _temporary) are the same rows again.
        """
        if not self.url:  # pyarrow refuses a folder where one name is not UTF-8, and follows links in circles
            names = [str(path) for path in files_below(Path(self.path)) if path.is_file()]
        else:
            try:
                found = _system(self.url)[0].get_file_info(fs.FileSelector(self.path, recursive=True))
            except (pa.ArrowException, OSError) as error:
                raise self._unreachable(error) from None
            names = [info.path for info in found if info.type == fs.FileType.File]
        return sorted(
            (name for name in names if not any(word[0] in "._" for word in self._below(name))),
            key=lambda name: PurePosixPath(name).parts,
        )

    def open(self, file: str, *, mapped: bool = False) -> Any:
        """The bytes of a file; mapped into memory, where it is one of this machine and that is wanted.

        Raises:
            OSError: it cannot be opened.
        """
        if mapped and not self.url and Path(file).stat().st_size:
            return pa.memory_map(self._named(file))
        return _system(self.url)[0].open_input_file(self._named(file))

    def stamps(self, files: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
        """Name, size and time of change of these files; 0 for what is unknown."""
        names = list(files)
        found = _system(self.url)[0].get_file_info([self._named(name) for name in names])
        return tuple(
            (name, int(info.size or 0), int(info.mtime_ns or 0))
            for name, info in zip(names, found, strict=True)
        )

    def _named(self, file: str) -> str | bytes:
        """As pyarrow takes a name: of this machine as bytes, which need not be text."""
        return file if self.url else os.fsencode(file)

    def _below(self, file: str) -> tuple[str, ...]:
        """The folders in this one, and the name, that lead to a file; of a file elsewhere the name alone."""
        words, root = PurePosixPath(file).parts, PurePosixPath(self.path).parts
        return words[len(root) :] if words[: len(root)] == root else words[-1:]

    def __str__(self) -> str:
        return self.url or self.path

    def _unreachable(self, error: BaseException) -> ArgumentError:
        return ArgumentError(f"file: got {self}, which cannot be reached: {one_line(error)}")


def locate(path: str | os.PathLike[str]) -> Location:
    """What a path or URL means.

    pyarrow's own file systems come first (`file`, `s3`, `gs`, `hdfs`), then fsspec's (`http`, `memory`, `az`, ...).

    Raises:
        ArgumentError: no file system knows the URL.

    >>> locate("birds.parquet")
    Location(url='', path='birds.parquet')
    """
    text = os.fspath(path)
    if "://" not in text:
        return Location("", text)
    if text.startswith("file://"):
        return Location("", _system(text)[1])
    return Location(text, _system(text)[1])


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@lru_cache(maxsize=16)
def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it; a process opens each once."""
    if not url:
        return fs.LocalFileSystem(), ""
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(url)
        return found
    except (pa.ArrowInvalid, NotImplementedError, ImportError) as error:
        told = one_line(error)
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise ArgumentError(
            f"file: got {url}; expected a URL that pyarrow ({told}) or fsspec ({one_line(error)}) can open"
        ) from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path
