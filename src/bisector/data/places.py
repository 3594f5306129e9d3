"""Where data sets are: their names, where one is looked for, how it is downloaded. Read without torch."""

import difflib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bisector.data.plugins import plugin_of
from bisector.errors import ArgumentError, missing_extra, reason_of

DATA_SETS = ("digits", "fashion-mnist", "cifar10", "cifar100")
"""The names that `bisector.data.registry.load` knows; of each there is a function in `bisector.data.named`."""

DATA_FOLDER = "BISECTOR_DATA"
"""The environment variable that names the folder of the user's data sets."""


def require_data_name(data: str) -> None:
    """Raise `ArgumentError` for a word or path that is no name of a data set, and where nothing lies.

    >>> require_data_name("digit")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: data: got 'digit'; did you mean 'digits'? expected one of digits, fashion-mnist,
    cifar10, cifar100, or a path, but nothing is at that path
    """
    if data in DATA_SETS or "://" in data or "," in data or plugin_of(data) is not None:
        return
    if not os.path.exists(Path(data).expanduser()):  # noqa: PTH110 - of any length
        raise unknown_data(data, "nothing is at that path")


def unknown_data(data: str, found: str) -> ArgumentError:
    """The error for data that are no name, and for whose path this was found, in words."""
    near = difflib.get_close_matches(data, DATA_SETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ArgumentError(
        f"data: got {data!r}; {hint}expected one of {', '.join(DATA_SETS)}, or a path, but {found}"
    )


def resolvable(data: str) -> str:
    """Return words for data that mean the same from every folder: a path from the root; a name or URL as it is.

    Args:
        data: as the user typed it: a name, a path, a Python file with options, two paths with a comma between, a
            URL. What is none of these is returned as it is.

    >>> resolvable("digits"), resolvable("s3://bucket/table")
    ('digits', 's3://bucket/table')
    >>> resolvable(".") == str(Path.cwd())
    True
    """
    if data in DATA_SETS:
        return data
    plugin = plugin_of(data)
    if plugin is not None and plugin.file.is_file():
        return ":".join([str(plugin.file.absolute()), *map("=".join, plugin.options.items())])
    whole = [data] if Path(data).expanduser().exists() else data.split(",")
    paths = [Path(word).expanduser() for word in whole]
    there = all(word and path.exists() for word, path in zip(whole, paths, strict=True))
    return ",".join(str(path.absolute()) for path in paths) if there else data


def data_folders() -> list[Path]:
    """Return the folders that may hold data sets: the one that BISECTOR_DATA names, and the cache."""
    own = os.environ.get(DATA_FOLDER)
    return [*([Path(own)] if own else []), cache_folder()]


def cache_folder() -> Path:
    """Return the folder for what was downloaded or made: ~/.cache/bisector, or where XDG_CACHE_HOME says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bisector"


def files_below(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and those in it and is no folder, in a fixed order and without what is hidden.

    Links are followed, circles are not: what leads to a folder around this one, or to one that was there already.
    """
    seen = set(map(str, Path(os.path.realpath(folder)).parents))
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from (Path(place) / name for name in sorted(files) if not name.startswith("."))


def download(name: str, fetch: Callable[[str], object], wanted: str, hints: Sequence[str]) -> Path:
    """Download a data set into the first of `data_folders` that can be written to, whole or not at all.

    What is fetched lies in a folder beside its place until it is complete: a download that is broken off leaves
    nothing behind that would be taken for a data set.

    Args:
        name: of the data set, for the message.
        fetch: downloads into the folder it is given.
        wanted: the folder that `fetch` makes there.
        hints: where the files can be put by hand.

    Raises:
        ArgumentError: if it cannot be downloaded; it says where the files can be put.
    """
    place = next((folder for folder in data_folders() if _writable(folder)), cache_folder())
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".download-") as folder:
            fetch(folder)
            target = place / wanted
            if target.exists():  # not whole, or it would have been read; what else is in it is not ours
                shutil.copytree(Path(folder) / wanted, target, dirs_exist_ok=True)
            else:
                (Path(folder) / wanted).rename(target)
        return target
    except ImportError:
        raise missing_extra("torchvision", "train") from None
    except Exception as error:
        raise ArgumentError(
            f"data: {name} is not on this machine and cannot be downloaded ({reason_of(error):.200}); "
            f"put its files into {' or '.join(hints)}"
        ) from None


def _writable(folder: Path) -> bool:
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK)
