"""Images in folders: one folder a class, or folders for training and test that hold these."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from bisector.data.image_examples import Reading, read_images
from bisector.data.images import IMAGE_SUFFIXES, Encoded
from bisector.data.parts import part_of
from bisector.data.source import Source
from bisector.errors import require


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image, by its suffix in small or capital letters; none is hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def has_image_classes(folder: Path) -> bool:
    """Whether a folder holds at least one folder with an image in it."""
    return any(next(_images(inner), None) for inner in _folders(folder))


def image_folder_source(folder: Path, reading: Reading) -> Source:
    """Read a folder of images.

    Each folder inside is a class and bears its name, letter for letter; images in folders further down belong to it
    too. If there is a folder "train" (or "training") beside nothing but "test" or "val" (or other words for these),
    it is these that hold the classes. A folder that holds nothing but one other folder stands for that one. Hidden
    files are skipped, and files whose suffix is not an image's; all else that is not used is named in `left_out`: a
    damaged image, an image in no class, a class without a readable image.

    Args:
        folder: as the user named it.
        reading: how the images are read.

    Raises:
        ArgumentError: if no image can be read.
    """
    top = _unwrapped(folder)
    roots = _part_folders(top)
    images: list[Encoded] = []
    classes: list[str] = []
    marks: list[str] = []
    every: set[str] = set()
    left_out: list[str] = []
    for place in dict.fromkeys([folder, top, *(root for _, root in roots)]):
        left_out += _astray(place, folder)
    if roots[0][0] is not None:
        left_out += [
            f"{told(os.path.relpath(path, folder.parent))}: not a folder for training, validation or test"
            for path in _folders(top)
            if part_of(path.name) is None
        ]
    for mark, root in roots:
        for inner in _folders(root):
            every.add(inner.name)
            for path in _images(inner):
                images.append(str(path))
                classes.append(inner.name)
                marks.append(mark or "train")
    require(bool(images), "data", f"{folder} without an image in a class folder", "images")
    names = [told(os.path.relpath(str(path), folder.parent)) for path in images]

    read = read_images(images, names, **reading._asdict())
    kept = [classes[index] for index in read.readable.tolist()]
    left_out += read.left_out
    left_out += [f"class {told(name)!r}: no readable image" for name in sorted(every - set(kept))]
    found = sorted(set(kept))
    number = {name: index for index, name in enumerate(found)}
    parts: dict[str, list[int]] = {}
    for row, index in enumerate(read.readable.tolist()):
        parts.setdefault(marks[index], []).append(row)
    return Source(
        examples=read.examples,
        labels=torch.tensor([number[name] for name in kept]),
        class_names=tuple(told(name) for name in found),
        parts={part: torch.tensor(rows) for part, rows in parts.items()} if roots[0][0] else {},
        augmentation="crop-flip",
        left_out=tuple(left_out),
        notes=tuple(read.notes),
        pixel_range=read.pixel_range,
    )


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


def _astray(folder: Path, root: Path) -> list[str]:
    """Images that lie beside the class folders, a line each or one for many."""
    files = [path for path in _files(folder) if is_image(path)]
    where = told(os.path.relpath(folder, root.parent))
    if len(files) > 10:
        return [f"{where}: {len(files)} images in no class folder"]
    return [f"{where}/{told(path.name)}: in no class folder" for path in files]


def _folders(folder: Path) -> list[Path]:
    hidden = (".", "__MACOSX")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(hidden))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _images(folder: Path) -> Iterator[Path]:
    """All images in a folder and those in it, in a fixed order; links are followed, circles are not."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from (Path(place) / name for name in sorted(files) if is_image(Path(name)))
