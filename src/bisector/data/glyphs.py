"""Kanji as the fonts of this computer draw them: thousands of classes, nothing downloaded."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bisector.data.dataset import Dataset
from bisector.data.examples import InMemory
from bisector.data.fonts import FONT_PACKAGES, Design, distinct_designs, draw, font_files
from bisector.data.places import cache_folder
from bisector.data.source import Source
from bisector.data.splits import standard_split
from bisector.errors import missing_extra, require, require_integer
from bisector.files import write_whole

FEWEST_DESIGNS = 5
_FORMAT = 1  # of what is stored; to be raised whenever other images would be drawn

# The first level of JIS X 0208: rows 16 to 47, of which the last has 51 characters.
KANJI = tuple(
    bytes([0xA0 + row, 0xA0 + cell]).decode("euc_jp")
    for row in range(16, 48)
    for cell in range(1, 52 if row == 47 else 95)
)
"""The 2,965 kanji of everyday use, the classes."""


def glyphs(*, imbalance: float = 1.0, seed: int = 0, image_size: int | None = None) -> Dataset:
    """The data set of `glyph_source`, divided by `standard_split`.

    Args:
        imbalance: training count of the commonest class over that of the rarest, at least 1.
        seed: decides which designs of a character are for what, which classes are rare, and what is kept of them.
        image_size: edge of the images in pixels; 32 if None.

    Raises:
        ArgumentError: if fewer than five designs are found (the message says how to install some), or a number is
            not legal.
        MissingExtraError: without Pillow.
    """
    return standard_split("glyphs", glyph_source(image_size=image_size), imbalance=imbalance, seed=seed)


def glyph_source(*, image_size: int | None = None, folders: Iterable[Path] | None = None) -> Source:
    """The 2,965 kanji of JIS X 0208, level 1, each drawn once by every font design that is found.

    Images are (1, image_size, image_size), white on black. A design is a font that draws nearly all of the kanji in
    its own way: `distinct_designs` leaves out the twins, and blanks and boxes in place of characters are no
    examples. Which designs there are depends on the computer: results are comparable where the fonts are the same.
    On Debian and Ubuntu the packages in `bisector.data.fonts.FONT_PACKAGES` give more than 40.

    The images are stored in `bisector.data.places.cache_folder`, so that they are drawn once for all trainings; the
    first time takes about half a minute. With other fonts or another size they are drawn anew.

    Args:
        image_size: edge of the images in pixels, from 8 to 96; 32 if None.
        folders: where to look for fonts; the system's and the user's folders if None.

    Raises:
        ArgumentError: if fewer than five designs are found, or the size is not legal.
        MissingExtraError: without Pillow.
    """
    size = 32 if image_size is None else require_integer("image_size", image_size, least=8)
    require(size <= 96, "image_size", size, "an integer of at most 96: all images are held in memory")
    files = font_files(folders)
    stored = cache_folder() / f"glyphs-{_key(files, size)}.npz"
    if not stored.exists():
        designs, left_out = distinct_designs(files, KANJI)
        require(
            len(designs) >= FEWEST_DESIGNS,
            "data",
            f"glyphs with {len(designs)} font designs that draw kanji",
            f"at least {FEWEST_DESIGNS}; on Debian and Ubuntu: apt-get install {' '.join(FONT_PACKAGES)}",
        )
        _store(designs, left_out, size, stored)
    return _read(stored)


def _store(designs: list[Design], left_out: list[str], size: int, path: Path) -> None:
    """Draw everything and write it; a reader sees all of it or nothing."""
    images, labels, drawn_by = [], [], []
    for number, design in enumerate(designs):
        drawn = draw(design, KANJI, size)
        there = np.flatnonzero(drawn.any(axis=(1, 2)))
        images.append(drawn[there])
        labels.append(there)
        drawn_by.append(np.full(len(there), number))
        if len(there) < len(KANJI):
            left_out.append(
                f"font {design.file.name}: {len(KANJI) - len(there)} characters, which it does not draw"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        drawn_by=np.concatenate(drawn_by),
        designs=np.array([design.name for design in designs]),
        left_out=np.array(left_out, dtype=str),
    )
    write_whole(path, buffer.getvalue())


def _read(path: Path) -> Source:
    with np.load(path, allow_pickle=False) as stored:
        images: NDArray[np.uint8] = stored["images"]
        labels: NDArray[np.int64] = stored["labels"]
        designs = stored["designs"][stored["drawn_by"]].tolist()
        left_out = stored["left_out"].tolist()
    names = [f"{KANJI[label]} in {design}" for label, design in zip(labels.tolist(), designs, strict=True)]
    examples = InMemory(torch.from_numpy(images).unsqueeze(1), names)
    return Source(
        examples, torch.from_numpy(labels).long(), KANJI, left_out=tuple(left_out), augmentation="crop"
    )


def _key(files: Iterable[Path], size: int) -> str:
    """What the images are a function of: the fonts, the size, and who draws them."""
    try:
        from PIL import features
    except ImportError:
        raise missing_extra("Pillow", "train") from None
    fonts = [(path.name, path.stat().st_size) for path in files]
    everything = repr((_FORMAT, size, features.version("freetype2"), fonts))
    return hashlib.sha256(everything.encode()).hexdigest()[:16]
