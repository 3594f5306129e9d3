"""Where the files of a table lie, on this machine or behind a URL; which they are, and which are of which split."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from bisector.data.places import files_below
from bisector.data.source import SPLIT_WORDS
from bisector.errors import ArgumentError, missing_extra, require

try:
    import pyarrow as pa
    from pyarrow import fs
except ImportError:
    raise missing_extra("pyarrow", "measure") from None

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc", ".arrows")
TEXT = (".csv", ".tsv")
JSON = (".jsonl", ".ndjson")

Format: TypeAlias = Literal["parquet", "arrow", "text", "json"]
FORMATS: Mapping[str, Format] = {
    **dict.fromkeys(PARQUET, "parquet"),
    **dict.fromkeys(ARROW, "arrow"),
    **dict.fromkeys(TEXT, "text"),
    **dict.fromkeys(JSON, "json"),
}
"""By the suffix of a file."""


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


@lru_cache(maxsize=16)  # a process opens each once
def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
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


@dataclass(frozen=True)
class Listing:
    """The files of a data set.

    Args:
        format: of all of them.
        files: in order.
        words: for each file the word that may say its split; the name of the file where it is not here.
        class_names: of columns of labels, where they stand beside the files.
    """

    format: Format
    files: tuple[str, ...]
    words: Mapping[str, str] = field(default_factory=dict)
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def splits(self) -> dict[str, str]:
        """The split of every file; empty unless all have one and not all the same."""
        found = {}
        for file in self.files:
            word = self.words.get(
                file, PurePosixPath(file).stem
            )  # train-00000-of-00002, as Hugging Face names it
            first = re.split("[-_.]", word)[0].lower()
            if first in SPLIT_WORDS:
                found[file] = SPLIT_WORDS[first]
        return found if len(found) == len(self.files) and len(set(found.values())) > 1 else {}


def list_files(location: Location) -> Listing | None:
    """The files that a path or URL means; None where none is Parquet, Arrow, text or JSON Lines.

    Text and JSON Lines are read where they are named: in a folder they may be anything, ours too.

    Raises:
        ArgumentError: nothing is there, or a folder of Hugging Face is not as it should be.
    """
    suffix = PurePosixPath(location.path).suffix.lower()
    if not location.is_folder():
        return Listing(FORMATS[suffix], (location.path,)) if suffix in FORMATS else None
    files = location.files()
    if parquet := _select(files, PARQUET):
        return Listing("parquet", tuple(parquet))
    return _arrow_folder(location, files) if _select(files, ARROW) else None


def _arrow_folder(location: Location, files: Sequence[str]) -> Listing | None:
    top = PurePosixPath(location.path)
    splits = [str(name) for name in _json(location, top / "dataset_dict.json", files).get("splits", [])]
    folders = {top / split: split for split in splits} or {top: ""}
    words: dict[str, str] = {}
    names: dict[str, tuple[str, ...]] = {}
    for folder, split in folders.items():
        features = _json(location, folder / "dataset_info.json", files).get("features")
        for name, feature in features.items() if isinstance(features, dict) and not names else ():
            if isinstance(feature, dict) and isinstance(feature.get("names"), list):  # a ClassLabel
                names[name] = tuple(map(str, feature["names"]))
        state = _json(location, folder / "state.json", files)
        permuted = state.get("_indices_data_files")
        legal = "flatten_indices() before it is saved"
        require(not permuted, "file", f"{folder} with its rows in another order", legal)
        entries = state.get("_data_files", [])
        told = f"{folder / 'state.json'} with {str(entries)[:40]!r} as _data_files"
        require(isinstance(entries, list), "file", told, "a list of file names")
        for entry in entries:
            name = entry.get("filename") if isinstance(entry, dict) else entry
            require(isinstance(name, str), "file", told, "a list of file names")
            words[str(folder / str(name))] = split
    if words:
        return Listing("arrow", tuple(words), words if splits else {}, names)
    # What Hugging Face's map and filter leave beside the data is the same rows again.
    plain = [file for file in _select(files, ARROW) if not PurePosixPath(file).name.startswith("cache-")]
    return Listing("arrow", tuple(plain), class_names=names) if plain else None


def _json(location: Location, file: PurePosixPath, files: Sequence[str]) -> dict[str, Any]:
    """The object in a file; an empty one where there is no such file."""
    if str(file) not in files:
        return {}
    try:
        with location.open(str(file)) as stream:
            found = json.loads(stream.read())
    except (ValueError, OSError) as error:
        raise ArgumentError(f"file: {file} cannot be read as JSON: {one_line(error)}") from None
    require(isinstance(found, dict), "file", f"{file} with {str(found)[:20]!r}", "a JSON object")
    return dict(found)


def _select(files: Sequence[str], suffixes: Iterable[str]) -> list[str]:
    return [file for file in files if PurePosixPath(file).suffix.lower() in suffixes]
