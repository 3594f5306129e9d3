"""Decodes one image of a file: whatever its kind, it becomes bytes of one or three channels."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bisector.errors import missing_extra, reason_of

if TYPE_CHECKING:
    from PIL import Image

_JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".jp2"}
_NETPBM = {".ppm", ".pgm", ".pbm", ".pnm"}
_OTHER = {".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".tga", ".ico"}
IMAGE_SUFFIXES = frozenset(_JPEG | _NETPBM | _OTHER)
"""Files with another suffix are no images."""

_DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}  # modes of more than 8 bits
_GRAY = {"1", "L", "LA", "La", *_DEEP}
# Of colours of 16 bits Pillow reads the upper byte alone: its name for that, and for what reads the lower one.
_NATIVE = "B" if sys.byteorder == "little" else "L"
_GRAY_AND_ALPHA = "LA;16B"
_LOWER = {_GRAY_AND_ALPHA: "RGBA"} | {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", _NATIVE))
}
_TRANSPARENT = {"RGBA", "RGBa", "LA", "La", "PA"}
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that exchange width and height
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101
_KNOWN_BLOCKS = {"JPEG", "PNG"}  # formats that tell of an orientation in one of these
_BLOCKS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}

Pixels = npt.NDArray[np.uint8]

Encoded = str | bytes
"""The path of an image file, or its content."""


class UnreadableImageError(ValueError):
    """An image cannot be decoded. The message says why, and does not name the file."""


class DifferentImageError(ValueError):
    """An image is not of the size and kind that was expected of it."""


PixelRange = tuple[float, float]
"""The values that become 0 and 255 where a pixel has more than 8 bits."""


class Header(NamedTuple):
    """What a file says of its image: size and kind, upright."""

    channels: int  # 1 or 3
    height: int
    width: int
    deep: bool  # whether a pixel has more than 8 bits, or is a floating-point number


def image_header(image: Encoded) -> Header:
    """Read size and kind without decoding.

    Raises:
        UnreadableImageError: if this is no image.
    """
    with _opened(image) as opened:
        return _header(opened)


def decode_image(
    image: Encoded,
    channels: int,
    image_size: int | None = None,
    expected: Header | None = None,
    *,
    upright: bool = True,
    pixel_range: PixelRange | None = None,
) -> Pixels:  # (channels, height, width)
    """Decode an image: upright by its EXIF orientation, what is transparent on white, in 8 bits.

    A pixel x of more than 8 bits becomes `floor(255 (x - low) / (high - low))`, cut to 0 and 255.

    Args:
        image: a path or the content of a file.
        channels: 1 (gray) or 3 (red, green, blue).
        image_size: brings the shorter side to this length, antialiased, and cuts the middle out; None: as it is.
        expected: what the header should say.
        upright: whether an image that EXIF says to lie on its side is turned.
        pixel_range: (low, high) for deep pixels: that of the data set, so that all of its images have one scale;
            that of this image (`range_of` its own values) if None.

    Raises:
        UnreadableImageError: if the image is damaged or no image, or a pixel is not a finite number.
        DifferentImageError: if the header says something else.
    """
    with _opened(image) as opened:
        if expected is not None and _header(opened) != expected:
            raise DifferentImageError
        found = _sized(_upright(image, opened, channels, image_size, upright, pixel_range), image_size)
        flat = np.frombuffer(found.tobytes(), np.uint8)  # faster than numpy's own way to ask an image
        return flat.reshape(found.height, found.width, -1).transpose(2, 0, 1)


def pixel_values(image: Encoded) -> tuple[float, float, bool]:
    """Return the least and the greatest value of a deep image, and whether its values are whole numbers.

    Raises:
        UnreadableImageError: if the image is damaged or no image, or a pixel is not a finite number.
    """
    with _opened(image) as opened:
        values = _deep_values(image, opened, turn=False)
        colours = values[..., :3] if values.ndim == 3 else values
        return float(colours.min()), float(colours.max()), opened.mode != "F"


def range_of(low: float, high: float, whole: bool) -> PixelRange:
    """Return the values that become 0 and 255, for pixels from `low` to `high`.

    Whole numbers have the bits that they need: 8, 10, 12, 14, 16, ... Floating-point and negative ones are taken
    from the least (0, unless one is below) to the greatest.

    >>> range_of(0, 200, True), range_of(3, 3071, True), range_of(-1024, 3071, True)
    ((0.0, 255.0), (0.0, 4095.0), (-1024.0, 3071.0))
    >>> range_of(0.1, 0.9, False)
    (0.0, 0.9)
    """
    if whole and low >= 0:
        bits = max(8, int(high).bit_length())
        return 0.0, float(2 ** (bits + bits % 2) - 1)
    low = min(float(low), 0.0)
    return low, float(high) if high > low else low + 1.0


def _header(opened: "Image.Image") -> Header:
    width, height = opened.size
    if _may_lie(opened):
        notes = opened.getexif()
        if opened.format == "TIFF":  # some versions of Pillow have turned the size of these already
            width, height = notes.get(_WIDTH, width), notes.get(_HEIGHT, height)
        if notes.get(_ORIENTATION) in _SIDEWAYS:
            width, height = height, width
    return Header(1 if opened.mode in _GRAY else 3, height, width, _is_deep(opened))


def _may_lie(opened: "Image.Image") -> bool:
    """Whether an image may have an orientation; to ask each for EXIF would cost as much as decoding it."""
    return opened.format not in _KNOWN_BLOCKS or not _BLOCKS.isdisjoint(opened.info)


def _open(image: Encoded) -> "Image.Image":
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("Pillow", "train") from None
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)


@contextmanager
def _opened(image: Encoded) -> Iterator["Image.Image"]:
    """An open image; whatever goes wrong with it becomes one error with a reason."""
    try:
        with _open(image) as opened:
            yield opened
    except (DifferentImageError, ImportError):
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(image, error)) from None


def _is_deep(opened: "Image.Image") -> bool:
    return opened.mode in _DEEP or _raw_mode(opened) in _LOWER


def _raw_mode(opened: "Image.Image") -> str:
    """How the bytes of the file are read: modes of several colours have 8 bits each, whatever the file has."""
    tiles = getattr(opened, "tile", None)
    if not tiles or opened.mode not in {"RGB", "RGBA"}:
        return ""
    given = tiles[0][3]
    return str(given[0] if isinstance(given, tuple) else given)


def _deep_values(image: Encoded, opened: "Image.Image", turn: bool) -> npt.NDArray[np.float64]:
    """The values (height, width) or (height, width, bands) of a deep image, upright if it is to be turned.

    Raises:
        ValueError: if one of them is not a finite number.
    """
    from PIL import ImageOps

    raw = _raw_mode(opened)
    layers = [opened]
    if raw in _LOWER:
        again: Any = _open(image)  # its pixels are read once more, each from its lower byte
        again.tile = [_with_raw_mode(tile, _LOWER[raw]) for tile in again.tile]
        layers = [again] if raw == _GRAY_AND_ALPHA else [opened, again]
    read = [
        np.asarray(ImageOps.exif_transpose(layer) if turn and _may_lie(layer) else layer).astype(np.float64)
        for layer in layers
    ]
    found = read[0] if len(read) == 1 else 256 * read[0] + read[1]
    if raw == _GRAY_AND_ALPHA:  # read as four bands: the two bytes of gray, the two of alpha
        found = (256 * found[..., 0::2] + found[..., 1::2])[..., [0, 0, 0, 1]]
    unknown = int((~np.isfinite(found)).sum())
    if unknown:
        raise ValueError(f"{unknown} of its {found.size} pixels are NaN or infinite")
    return found


def _with_raw_mode(tile: Any, raw: str) -> Any:
    *where, how = tile
    changed = (*where, (raw, *how[1:]) if isinstance(how, tuple) else raw)
    return tile._make(changed) if hasattr(tile, "_make") else changed  # older Pillow has plain tuples


def _shallow(
    image: Encoded, opened: "Image.Image", turn: bool, pixel_range: PixelRange | None
) -> "Image.Image":
    """A deep image in 8 bits."""
    from PIL import Image

    values = _deep_values(image, opened, turn)
    colours = values[..., :3] if values.ndim == 3 else values
    if pixel_range is None:
        pixel_range = range_of(float(colours.min()), float(colours.max()), opened.mode != "F")
    low, high = pixel_range
    levels = np.floor((colours - low) * 255 / (high - low)).clip(0, 255)
    if values.shape[2:] == (4,):
        levels = np.concatenate([levels, values[..., 3:] // 257], axis=-1)
    return Image.fromarray(levels.astype(np.uint8))


def _upright(
    image: Encoded,
    opened: "Image.Image",
    channels: int,
    image_size: int | None,
    turn: bool,
    pixel_range: PixelRange | None,
) -> "Image.Image":
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    if image_size is not None and opened.format == "JPEG":
        # Large photographs are decoded at 1/2, 1/4 or 1/8 of their size, never below twice the wanted size.
        opened.draft(None, (2 * image_size, 2 * image_size))
    if _is_deep(opened):
        upright = _shallow(image, opened, turn, pixel_range)
    else:
        upright = ImageOps.exif_transpose(opened) if turn and _may_lie(opened) else opened
    if upright.mode in _TRANSPARENT or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.new("RGBA", layer.size, "white")
        upright.alpha_composite(layer)
    return upright if upright.mode == mode else upright.convert(mode)


def _sized(image: "Image.Image", size: int | None) -> "Image.Image":
    from PIL import Image

    if size is None or image.size == (size, size):
        return image
    shorter = min(image.size)
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _reason(image: Encoded, error: Exception) -> str:
    path = None if isinstance(image, bytes) else Path(image)
    if not image or (path is not None and path.is_file() and not path.stat().st_size):
        return "it is empty"
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image of a known kind"
    return error.strerror if isinstance(error, OSError) and error.strerror else reason_of(error)
