"""Images in folders: one folder a class, or folders for training and test that hold these."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bisector.data.image_examples import Reading
from bisector.data.image_source import LabelledImage, image_source
from bisector.data.images import IMAGE_SUFFIXES, Encoded, UnreadableImageError, image_header
from bisector.data.places import files_below
from bisector.data.source import Source, part_of
from bisector.errors import require

_LITTER = {"thumbs.db", "desktop.ini"}  # which Windows leaves in folders of images


def is_image(path: Path) -> bool:
    """Whether a file is an image that is not hidden: by its suffix, or by its content if it has none."""
    if path.name.startswith(".") or path.suffix:
        return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    try:
        return path.is_file() and image_header(str(path)).width > 0
    except UnreadableImageError:
        return False


def has_image_classes(folder: Path) -> bool:
    """Whether a folder holds at least one folder with an image in it."""
    return any(is_image(path) for inner in _folders(folder) for path in files_below(inner))


def has_several_classes(folder: Path) -> bool:
    """Whether the images of a folder lie in folders of at least two classes."""
    inner = (path for _, root in _part_folders(_unwrapped(folder)) for path in _folders(root))
    return len({class_of(path) for path in inner if any(map(is_image, files_below(path)))}) > 1


def image_folder_source(folder: Path, reading: Reading, unread: Sequence[str] = ()) -> Source:
    """Read a folder of images.

    Each folder inside is a class and bears its name; images in folders further down belong to it too. Accents are
    composed (NFC): names that are written alike are one class, whichever computer wrote them. If there is a folder
    "train" (or "training") beside nothing but "test" or "val" (or other words for these), it is these that hold
    the classes. A folder that holds nothing but one other folder stands for that one. Hidden files are skipped; all
    else that is not used is named in `left_out`: a damaged image, an image in no class, files of other kinds in a
    class (by kind, with how many), a class without a readable image.

    Args:
        folder: of the classes.
        reading: how images are read.
        unread: a line for each file in it that perhaps should have told the labels.

    Raises:
        ArgumentError: if no image can be read.
    """
    top = _unwrapped(folder)
    roots = _part_folders(top)
    found: list[tuple[Path, str, str]] = []  # images, the folders that are their classes, and their parts
    every: set[str] = set()
    others: dict[str, list[Path]] = {}  # files in class folders that are no images, by suffix
    for part, root in roots:
        for inner in _folders(root):
            name = class_of(inner)
            every.add(name)
            for path in files_below(inner):
                if is_image(path):
                    found.append((path, name, part or "train"))
                elif path.name.lower() not in _LITTER:
                    others.setdefault(path.suffix.lower(), []).append(path)
    require(bool(found), "data", f"{folder} without an image in a class folder", "images")

    def shown(path: Path) -> str:
        return told(os.path.relpath(path, folder.parent))

    places = dict.fromkeys([folder, top, *(root for _, root in roots)])
    left_out = [*unread, *(line for place in places for line in _astray(place, shown))]
    if roots[0][0] is not None:
        strays = [path for path in _folders(top) if part_of(path.name) is None]
        left_out += [f"{shown(path)}: not a folder for training, validation or test" for path in strays]
    left_out += [_of_another_kind(suffix, paths, shown) for suffix, paths in sorted(others.items())]
    called = {name: told(name) for name in sorted(every)}
    if len(set(called.values())) < len(called):  # names of bytes that are no text, and differ in these alone
        called = {name: os.fsencode(name).decode("utf-8", "backslashreplace") for name in called}
    images = [LabelledImage(str(path), shown(path), called[name], part) for path, name, part in found]
    return image_source(images, list(called.values()), reading, left_out=left_out)


class FoundImage(NamedTuple):
    """A file that seems to be an image, or the content of one, and what its folders say of it."""

    path: Encoded
    name: str  # by which a person finds it
    label: str | None = None  # the folder that is its class, where it lies in one
    part: str | None = None  # "train", "validation" or "test", where a folder says so


def find_images(folder: Path) -> tuple[list[FoundImage], list[str]]:
    """Return all images below a folder, whether they lie in folders of classes or not, and what else is there.

    The folders that are classes are those of `image_folder_source`; images beside them have no label. Nothing is
    read yet.

    Returns:
        The images, and a line for the files of each other kind.
    """
    known: dict[Path, tuple[str, str | None]] = {}
    for part, root in _part_folders(_unwrapped(folder)):
        for inner in _folders(root):
            known |= dict.fromkeys(files_below(inner), (told(class_of(inner)), part))

    def shown(path: Path) -> str:
        return told(os.path.relpath(path, folder.parent))

    images: list[FoundImage] = []
    others: dict[str, list[Path]] = {}
    for path in files_below(folder):
        if is_image(path):
            images.append(FoundImage(str(path), shown(path), *known.get(path, (None, None))))
        elif path.name.lower() not in _LITTER:
            others.setdefault(path.suffix.lower(), []).append(path)
    return images, [_of_another_kind(suffix, paths, shown) for suffix, paths in sorted(others.items())]


def class_of(folder: Path) -> str:
    """Return the name of the class whose images lie in a folder: its own, accents composed (NFC)."""
    return unicodedata.normalize("NFC", folder.name)


def told(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _unwrapped(folder: Path) -> Path:
    """The folder, or the only one that it holds, if that holds the classes: archives are often packed so."""
    inner = _folders(folder)
    while len(inner) == 1 and has_image_classes(inner[0]) and not any(map(is_image, _files(inner[0]))):
        folder, inner = inner[0], _folders(inner[0])
    return folder


def _part_folders(folder: Path) -> list[tuple[str | None, Path]]:
    """The folders of classes with their parts; the folder itself with None if it is not divided."""
    found = [(part_of(path.name), path) for path in _folders(folder)]
    parts = [(part, path) for part, path in found if part is not None]
    trained = any(part == "train" and has_image_classes(path) for part, path in parts)
    return [*parts] if trained and any(part != "train" for part, _ in parts) else [(None, folder)]


def _astray(folder: Path, shown: Callable[[Path], str]) -> list[str]:
    """Images and links to nothing that lie beside the class folders, a line each or one for many."""
    lost = [path for path in sorted(folder.iterdir()) if path.is_symlink() and not path.exists()]
    lines = [f"{shown(path)}: a link that leads nowhere" for path in lost]
    files = [path for path in _files(folder) if is_image(path)]
    if len(files) > 10:
        return [*lines, f"{shown(folder)}: {len(files)} images in no class folder"]
    return lines + [f"{shown(path)}: in no class folder" for path in files]


def _of_another_kind(suffix: str, paths: list[Path], shown: Callable[[Path], str]) -> str:
    """A line for the files of one suffix that lie in class folders and are no images."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    kind = f"files of the kind {told(suffix)} are not read as images"
    return f"{shown(paths[0])}{more}: {kind if suffix else 'without a suffix, and no image'}"


def _folders(folder: Path) -> list[Path]:
    hidden = (".", "__MACOSX")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(hidden))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())
