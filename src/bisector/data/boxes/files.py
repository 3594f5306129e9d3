"""Finds the image files of a data set: one listing of each folder, no question to the disk for each file."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bisector.data.boxes.left_out import LeftOut
from bisector.errors import ArgumentError


def find_images(
    names: Sequence[Sequence[str]],
    folders: Iterable[Path],
) -> tuple[Path | None, list[str | None]]:
    """Find the folder that holds most of the images, and each image's file in it.

    Args:
        names: for each image the paths, relative to such a folder, that may be its file, the likeliest first. The
            last part of a path counts too where no other image has the same.
        folders: where to look; of equals the first is taken.

    Returns:
        The folder, and the path of each image below it, None where there is none; no folder at all where none holds
        any of them.
    """
    last = [[re.split(r"[/\\]", name)[-1] for name in some] for some in names]
    common = Counter(name for some in last for name in set(some))
    wanted = [(*some, *(n for n in ends if common[n] == 1)) for some, ends in zip(names, last, strict=True)]
    best: tuple[Path | None, list[str | None]] = None, [None] * len(names)
    most = 0
    for folder in folders:
        listing = _Listing(str(folder))
        found = [next((name for name in some if name in listing), None) for some in wanted]
        count = sum(file is not None for file in found)
        if count > most:
            best, most = (folder, found), count
        if most == len(names):
            break
    return best


def missing_images(count: int, whole: int, first: Sequence[str], folder: Path) -> ArgumentError:
    """The error for images whose files are not there."""
    names = ", ".join(first[:3]) + (", ..." if count > 3 else "")
    told = f"{count:,} of {whole:,} files are missing in {folder}: {names}"
    return ArgumentError(f"images: {told}; expected the folder that they are in")


class _Listing:
    """Answers whether a file is below a folder; each folder is listed once."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._names: dict[str, frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        inner, last = os.path.split(name)
        if inner not in self._names:
            try:
                self._names[inner] = frozenset(os.listdir(Path(self._folder) / inner))  # noqa: PTH208
            except (OSError, ValueError):  # no folder, or no name of one
                self._names[inner] = frozenset()
        return last in self._names[inner]


def files_below(folder: Path, faults: LeftOut) -> list[str]:
    """The paths of all files below a folder, links followed but never in a circle.

    Args:
        folder: where to look.
        faults: is told of names that are no UTF-8, which no list and no page can hold.

    Raises:
        ArgumentError: if a folder cannot be read.
    """
    found: list[str] = []
    parents = Path(os.path.realpath(folder)).parents  # a link up to one of them leads into all that is beside
    open_: list[tuple[str, frozenset[str]]] = [("", frozenset(map(str, parents)))]
    while open_:
        inner, above = open_.pop()
        place = os.path.join(folder, inner)  # noqa: PTH118 - names alone, a hundred thousand of them
        real = os.path.realpath(place)
        if real in above:
            continue
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise ArgumentError(f"data: {place} cannot be read: {error.strerror or error}") from None
        for entry in entries:
            path = f"{inner}/{entry.name}" if inner else entry.name
            if not _is_text(entry.name):
                faults.add("whose name is not UTF-8, passed over", repr(path), what="files")
            elif os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():  # noqa: PTH112
                open_.append((path, above | {real}))
            else:
                found.append(path)
    return sorted(found)


class Names:
    """Files by what others may call them: by path or, where no other has the same, by the last part of it.

    Args:
        files: paths below a data set's folder.
        place: the folder among them that names do not begin with, "" for none.

    >>> names = Names(["JPEGImages/a.png", "JPEGImages/b/c.jpg"], "JPEGImages")
    >>> names.exact("a"), names.exact("c.jpg"), names.file("c.jpg"), names.stem("/data/JPEGImages/b/c")
    ('JPEGImages/a.png', None, 'JPEGImages/b/c.jpg', 'b/c')
    """

    def __init__(self, files: Iterable[str], place: str) -> None:
        self._file: dict[str, str] = {}
        self._stem: dict[str, str] = {}
        last: dict[str, set[str]] = {}
        for file in sorted(files):
            own = file.removeprefix(f"{place}/")
            stem = _stem_of(own)
            for name in (own, stem):
                self._file.setdefault(name, file)
                self._stem.setdefault(name, stem)
                last.setdefault(name.rpartition("/")[2], set()).add(stem)
        self._last = {name: next(iter(stems)) for name, stems in last.items() if len(stems) == 1}

    def __len__(self) -> int:
        return len(self._file)

    def exact(self, name: str) -> str | None:
        """The path of the file of this name, which needs no suffix."""
        return self._file.get(name)

    def stem(self, name: str) -> str | None:
        """The name without a suffix, as `stems` has it, of the file that is called so, with any path before it."""
        while name not in self._stem:
            _, slash, inner = name.partition("/")  # of /data/JPEGImages/b/c next data/JPEGImages/b/c
            if not slash:
                return self._last.get(name)
            name = inner
        return self._stem[name]

    def file(self, name: str) -> str | None:
        """The path of the file that is called so, with any path before it."""
        stem = self.stem(name)
        return None if stem is None else self._file.get(name, self._file[stem])

    def stems(self) -> list[str]:
        """The names of all files, without a suffix, sorted."""
        return sorted(set(self._stem.values()))


def _stem_of(path: str) -> str:
    """A path without the suffix of its last part."""
    folder, slash, last = path.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
