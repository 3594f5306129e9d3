"""Kanji as the fonts of this computer draw them: thousands of classes, nothing downloaded.

A plugin (docs/plugins.md): ``bisector compare --data examples/kanji.py --split open-set --heads am-softmax,igam``.
"""

import hashlib
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bisector.data.examples import InMemory
from bisector.data.image_examples import Reading
from bisector.data.places import cache_folder
from bisector.data.source import Source
from bisector.errors import missing_extra, require, require_integer
from bisector.files import write_whole

FONT_PACKAGES = (
    "fonts-aoyagi-kouzan-t",
    "fonts-aoyagi-soseki",
    "fonts-arphic-ukai",
    "fonts-arphic-uming",
    "fonts-babelstone-han",
    "fonts-cns11643-kai",
    "fonts-cns11643-sung",
    "fonts-dejima-mincho",
    "fonts-dotgothic16",
    "fonts-droid-fallback",
    "fonts-hanazono",
    "fonts-horai-umefont",
    "fonts-ipaexfont-gothic",
    "fonts-ipaexfont-mincho",
    "fonts-kanjistrokeorders",
    "fonts-kiloji",
    "fonts-klee",
    "fonts-konatu",
    "fonts-kouzan-mouhitsu",
    "fonts-lxgw-wenkai",
    "fonts-misaki",
    "fonts-mona",
    "fonts-morisawa-bizud-gothic",
    "fonts-morisawa-bizud-mincho",
    "fonts-motoya-l-cedar",
    "fonts-mplus",
    "fonts-noto-cjk",
    "fonts-oradano-mincho-gsrr",
    "fonts-reggae",
    "fonts-sawarabi-gothic",
    "fonts-sawarabi-mincho",
    "fonts-seto",
    "fonts-train",
    "fonts-wqy-zenhei",
    "fonts-yozvox-yozfont-standard-kana",
    "fonts-yusei-magic",
)
"""Debian and Ubuntu packages with free fonts of distinct designs that draw the kanji."""

FEWEST_DESIGNS = 5
_FORMAT = 1  # of what is stored; to be raised whenever other images would be drawn

# The first level of JIS X 0208: rows 16 to 47, of which the last has 51 characters.
KANJI = tuple(
    bytes([0xA0 + row, 0xA0 + cell]).decode("euc_jp")
    for row in range(16, 48)
    for cell in range(1, 52 if row == 47 else 95)
)
"""The 2,965 kanji of everyday use, the classes."""

Image = NDArray[np.uint8]  # (size, size), ink 255

_SAMPLE = 50  # characters by which designs are judged
_SAMPLE_SIZE = 32  # pixels of the images by which designs are judged, whatever is drawn later
_COVERAGE = 0.95  # share of the sample that a design draws
_TWINS = 0.85  # median correlation of the pixels of one character in two designs
_INK = 0.94  # of the image's edge, the extent of all characters but the largest 5%
_UNASSIGNED = (
    "\U000efffe"  # a code point that is no character: what a font draws for it, it draws for lack of better
)


@dataclass(frozen=True)
class Design:
    """A font that draws characters in its own way."""

    name: str  # as the font gives it, such as "IPAexGothic"
    file: Path


def load_source(reading: Reading, options: Mapping[str, str]) -> Source:
    """Return the kanji at the size that was asked for; what bisector calls."""
    require(not options, "data", f"options {', '.join(options)} for kanji", "none")
    return kanji(image_size=reading.image_size)


def kanji(*, image_size: int | None = None, folders: Iterable[Path] | None = None) -> Source:
    """Return the 2,965 kanji of JIS X 0208, level 1, each drawn once by every font design that is found.

    Images are (1, image_size, image_size), white on black. A design is a font that draws nearly all of the kanji in
    its own way: `distinct_designs` leaves out the twins, and blanks and boxes in place of characters are no
    examples. Which designs there are depends on the computer: results are comparable where the fonts are the same.
    On Debian and Ubuntu the packages in `FONT_PACKAGES` give more than 40.

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
            f"kanji with {len(designs)} font designs that draw them",
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


def font_files(folders: Iterable[Path] | None = None) -> list[Path]:
    """The font files in these folders, by default the system's and the user's; each once, by file name.

    >>> font_files([Path("no such folder")])
    []
    """
    found = {
        path.resolve()
        for folder in (_system_folders() if folders is None else folders)
        for path in folder.rglob("*")
        if path.suffix.lower() in {".ttf", ".otf", ".ttc", ".otc"}
    }
    return sorted((path for path in found if path.is_file()), key=lambda path: (path.name, str(path)))


def distinct_designs(files: Iterable[Path], characters: Sequence[str]) -> tuple[list[Design], list[str]]:
    """Which fonts draw the characters, each in its own way, and one line for every other font that draws some.

    A font is judged by what it draws, as its own table of characters can mislead: blanks and the box that stands
    for a missing character do not count, and of two fonts whose images are nearly the same (a median correlation
    above 0.85 of the pixels of a character) the first is kept. Weights of one family that differ little are one
    design, too.

    Args:
        files: of fonts, in order of preference.
        characters: to be drawn.

    Raises:
        MissingExtraError: without Pillow.
    """
    sample = _sample(characters)
    kept: list[Design] = []
    images: list[NDArray[np.float64]] = []
    left_out = []
    for file in files:
        design = _design(file)
        drawn = draw(design, sample, _SAMPLE_SIZE) if design else np.zeros((1, 1, 1), np.uint8)
        coverage = drawn.any(axis=(1, 2)).mean()
        if design is None or not coverage:
            continue
        if coverage < _COVERAGE:
            left_out.append(
                f"font {file.name}: draws {coverage:.0%} of the characters, fewer than {_COVERAGE:.0%}"
            )
            continue
        pixels = _standardized(drawn)
        alike = (float(np.median((pixels * other).sum(axis=1))) for other in images)
        twin = next((known for known, close in zip(kept, alike, strict=True) if close > _TWINS), None)
        if twin is None:
            kept.append(design)
            images.append(pixels)
        else:
            left_out.append(f"font {file.name}: draws nearly as {twin.file.name} does")
    return kept, left_out


def draw(design: Design, characters: Sequence[str], size: int) -> Image:  # (len(characters), size, size)
    """Draw characters in white on black, each in the middle, all at one scale that fits the image.

    Characters that the font does not draw are black all over.
    """
    nominal = _font(design.file, size)
    inks = (_ink(nominal, character, size) for character in _sample(characters))
    extents = [max(ink.size) for ink in inks if ink]
    extent = np.percentile(extents, 95) if extents else size
    font = _font(design.file, max(1, round(size * _INK * size / extent)))
    drawn = np.stack([_centered(font, character, size) for character in characters])
    drawn[(drawn == _centered(font, _UNASSIGNED, size)).all(axis=(1, 2))] = 0
    # Some fonts draw a placeholder of their own for what they lack.
    _, first, copies = np.unique(
        drawn.reshape(len(drawn), -1), axis=0, return_inverse=True, return_counts=True
    )
    drawn[copies[first.reshape(-1)] > 2] = 0
    return drawn


def _centered(font: Any, character: str, size: int) -> Image:
    from PIL import Image

    image = Image.new("L", (size, size))
    ink = _ink(font, character, size)
    if ink:
        image.paste(ink, ((size - ink.width) // 2, (size - ink.height) // 2))
    return np.asarray(image)


def _ink(font: Any, character: str, size: int) -> Any:
    """An image of the ink alone, of whatever size it has; None where there is none."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (4 * size, 4 * size))
    try:
        ImageDraw.Draw(canvas).text((2 * size, 2 * size), character, fill=255, font=font, anchor="mm")
    except OSError:  # hints that FreeType cannot run
        return None
    box = canvas.getbbox()
    return canvas.crop(box) if box else None


def _sample(characters: Sequence[str]) -> Sequence[str]:
    return characters[:: max(1, len(characters) // _SAMPLE)]


def _design(file: Path) -> Design | None:
    try:
        family, style = _font(file, _SAMPLE_SIZE).getname()
    except OSError:  # no font, or damaged
        return None
    plain = style is None or style in {"Regular", "Normal", "Book", "Medium"}
    return Design(family or file.stem if plain else f"{family or file.stem} {style}", file)


def _font(file: Path, size: int) -> Any:
    try:
        from PIL import ImageFont
    except ImportError:
        raise missing_extra("Pillow", "train") from None
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def _standardized(images: Image) -> NDArray[np.float64]:  # (n, size, size) -> (n, size^2)
    """Pixels with mean 0 and length 1 in every image, so that a product is a correlation."""
    pixels = images.reshape(len(images), -1).astype(np.float64)
    pixels -= pixels.mean(axis=1, keepdims=True)
    lengths: NDArray[np.float64] = np.linalg.norm(pixels, axis=1, keepdims=True)
    return pixels / np.maximum(lengths, 1e-9)


def _system_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    return [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        home / ".local/share/fonts",
        home / ".fonts",
    ]
