"""Emoji as objects: what four vendors draw for one character, fetched with npm."""

import json
import shutil
import subprocess
import tarfile
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bisector.data.places import data_folders, download
from bisector.errors import ArgumentError, require

VENDORS = ("apple", "facebook", "google", "twitter")
"""Whose designs are used. They belong to their vendors, and are fetched and kept, never passed on."""

DEFAULT_CLASSES = 64

_FOLDER = "emoji-16.0.0"
_VERSION = "16.0.0"
_LIST = "emoji.json"
# Signs, letters and flags are rectangles of one colour with something small on it.
_LEFT_OUT = {"Component", "Flags", "Symbols"}


def emoji_files(classes: int | None = None) -> list[tuple[str, list[Path]]]:
    """The images of so many emoji, 64 x 64 pixels with an alpha channel, and their names.

    Emoji that all four vendors draw are taken in turn from the subcategories of the Unicode list (mammals, fruit,
    tools, ...), so that few classes are unlike each other and more of them are less so. They are the same for every
    seed. What is not on this machine is fetched with npm: 340 MB, of which 24 MB are kept.

    Args:
        classes: how many; 64 if None.

    Raises:
        ArgumentError: it cannot be fetched, or there are fewer emoji.
    """
    place = next(
        (folder / _FOLDER for folder in data_folders() if (folder / _FOLDER / _LIST).is_file()), None
    )
    if place is None:
        hints = [str(folder / _FOLDER) for folder in data_folders()]
        place = download("the emoji set", _fetch, _FOLDER, hints)
    chosen = _spread(json.loads((place / _LIST).read_text()))
    wanted = DEFAULT_CLASSES if classes is None else classes
    require(wanted <= len(chosen), "classes", wanted, f"at most {len(chosen)}, for so many emoji are used")
    return [
        (entry["short_name"], [place / vendor / entry["image"] for vendor in VENDORS])
        for entry in chosen[:wanted]
    ]


def _spread(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The usable emoji: the first of each subcategory, the second of each, ..."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(entries, key=lambda entry: int(entry["sort_order"])):
        drawn = all(entry[f"has_img_{vendor}"] for vendor in VENDORS)
        if drawn and entry["category"] not in _LEFT_OUT and not entry.get("obsoleted_by"):
            groups.setdefault(entry["subcategory"], []).append(entry)
    return [entry for turn in zip_longest(*groups.values()) for entry in turn if entry is not None]


def _fetch(folder: str) -> None:
    """Fetch the packages one after the other and keep the list and the images that are used."""
    npm = shutil.which("npm")
    if npm is None:
        raise ArgumentError("npm, which comes with Node.js, is not on the PATH")
    place = Path(folder) / _FOLDER
    for vendor in VENDORS:
        package = f"emoji-datasource-{vendor}@{_VERSION}"
        command = [npm, "pack", package, "--silent", "--pack-destination", folder]
        said = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        archive = Path(folder) / f"emoji-datasource-{vendor}-{_VERSION}.tgz"
        if said.returncode or not archive.is_file():
            lines = [line for line in said.stderr.splitlines() if line.strip()]
            raise ArgumentError(f"npm pack {package}: {lines[-1] if lines else f'exit {said.returncode}'}")
        _unpack(archive, vendor, place)
        archive.unlink()


def _unpack(archive: Path, vendor: str, place: Path) -> None:
    """Keep what is used of a package, in one pass: going back in an archive is to read it anew."""
    images, listed = f"package/img/{vendor}/64/", f"package/{_LIST}"
    contents: dict[str, bytes] = {}
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.name == listed or member.name.startswith(images):
                content = packed.extractfile(member)
                contents[member.name] = content.read() if content else b""
    (place / vendor).mkdir(parents=True)
    for entry in _spread(json.loads(contents[listed])):
        (place / vendor / entry["image"]).write_bytes(contents[images + entry["image"]])
    (place / _LIST).write_bytes(contents[listed])
