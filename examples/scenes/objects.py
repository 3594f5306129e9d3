"""The classes of a scene set: folders of images, or emoji."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bisector.data.image_folder import is_image, told
from bisector.data.keyed import keyed_permutation, keyed_seed
from bisector.errors import ArgumentError, require
from scenes.cutouts import Cutout, read_cutout


@dataclass(frozen=True, eq=False)
class ObjectClass:
    """A class and its cutouts."""

    name: str
    files: tuple[str, ...]  # as they are told to people, one a cutout
    cutouts: tuple[Cutout, ...]

    def division(self, seed: int, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The cutouts for training and validation, and those for the test part: a quarter, at least one of two.

        Args:
            seed: decides which.
            number: of the class.
        """
        many = len(self.cutouts)
        held = max(many // 4, 1) if many > 1 else 0
        order = keyed_permutation(keyed_seed(seed, number), 0, many).tolist()
        rest = tuple(sorted(order[held:]))
        return rest, tuple(sorted(order[:held])) or rest


def folder_files(folder: str, classes: int | None) -> list[tuple[str, list[Path]]]:
    """The class folders in a folder and the images in each; if fewer are wanted, those with most images.

    Raises:
        ArgumentError: there are fewer than two class folders, or than are wanted.
    """
    top = Path(folder).expanduser()
    require(
        top.is_dir(),
        "objects",
        repr(folder),
        "a folder that holds a folder of images for each class, or emoji",
    )
    found: list[tuple[str, list[Path]]] = []
    for inner in sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")):
        images = sorted(path for path in inner.rglob("*") if is_image(path) and path.is_file())
        if images:
            found.append((told(inner.name), images))
    least = classes or 2
    require(len(found) >= least, "objects", f"{len(found)} class folders in {folder}", f"at least {least}")
    if classes is not None:
        found = sorted(found, key=lambda of: -len(of[1]))[:classes]
    return sorted(found)


def read_classes(
    files: Sequence[tuple[str, Sequence[Path]]],
    designs: int,
    longest: int,
    seed: int,
) -> tuple[list[ObjectClass], list[str]]:
    """Cut out the objects of all classes; also one line for each file or class that cannot be used.

    Args:
        files: of each class.
        designs: at most so many of a class.
        longest: pixels, of a cutout.
        seed: decides which images of a class are used where there are more.

    Raises:
        ArgumentError: fewer than two classes have an image that can be used.
    """
    classes, left_out = [], []
    for number, (name, paths) in enumerate(files):
        order = torch.arange(len(paths))
        if len(paths) > designs:
            order = keyed_permutation(keyed_seed(seed, number), 1, len(paths))[:designs].sort().values
        cut: list[tuple[str, Cutout]] = []
        for path in (paths[index] for index in order.tolist()):
            known = f"{told(path.parent.name)}/{told(path.name)}"
            try:
                cut.append((known, read_cutout(path, longest)))
            except (OSError, ValueError, SyntaxError) as error:  # Pillow's, for a damaged PNG
                left_out.append(f"{known}: {' '.join(str(error).split()):.100}")
        if cut:
            names, cutouts = zip(*cut, strict=True)
            classes.append(ObjectClass(name, names, cutouts))
        else:
            left_out.append(f"class {name!r}: no image that can be used")
    if len(classes) < 2:
        raise ArgumentError(f"objects: got {len(classes)} classes with an image that can be used; expected 2")
    return classes, left_out
