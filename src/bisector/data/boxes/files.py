"""Finds the image files of a data set: one listing of each folder, no question to the disk for each file."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

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
            place = Path(self._folder) / inner
            self._names[inner] = (
                frozenset(file.name for file in place.iterdir()) if place.is_dir() else frozenset()
            )
        return last in self._names[inner]
