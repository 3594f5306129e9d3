"""The font designs of this computer that draw a set of characters, each once."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bisector.errors import missing_extra

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
