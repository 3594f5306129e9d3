"""Decodes one image of a file: whatever its kind, it becomes bytes of one or three channels."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bisector.errors import missing_extra

if TYPE_CHECKING:
    from PIL import Image

_JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".jp2"}
_NETPBM = {".ppm", ".pgm", ".pbm", ".pnm"}
_OTHER = {".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".tga", ".ico"}
IMAGE_SUFFIXES = frozenset(_JPEG | _NETPBM | _OTHER)
"""Files with another suffix are no images."""

_GRAY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
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


Header = tuple[int, int, int]
"""Channels (1 or 3), height and width of an image, upright."""


def image_header(image: Encoded) -> Header:
    """Read size and kind without decoding.

    Raises:
        UnreadableImageError: if this is no image.
    """
    try:
        with _open(image) as opened:
            return _header(opened)
    except Exception as error:
        raise UnreadableImageError(_reason(image, error)) from None


def decode_image(
    image: Encoded,
    channels: int,
    image_size: int | None = None,
    expected: Header | None = None,
    *,
    upright: bool = True,
) -> Pixels:  # (channels, height, width)
    """Decode an image: upright by its EXIF orientation, what is transparent on white, 16 bits brought to 8.

    Args:
        image: a path or the content of a file.
        channels: 1 (gray) or 3 (red, green, blue).
        image_size: brings the shorter side to this length, antialiased, and cuts the middle out; None: as it is.
        expected: what the header should say.
        upright: whether an image that EXIF says to lie on its side is turned.

    Raises:
        UnreadableImageError: if the image is damaged or no image.
        DifferentImageError: if the header says something else.
    """
    try:
        with _open(image) as opened:
            if expected is not None and _header(opened) != expected:
                raise DifferentImageError
            return _pixels(_sized(_upright(opened, channels, image_size, upright), image_size))
    except DifferentImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(image, error)) from None


def _header(opened: "Image.Image") -> Header:
    width, height = opened.size
    if _may_lie(opened):
        notes = opened.getexif()
        if opened.format == "TIFF":  # some versions of Pillow have turned the size of these already
            width, height = notes.get(_WIDTH, width), notes.get(_HEIGHT, height)
        if notes.get(_ORIENTATION) in _SIDEWAYS:
            width, height = height, width
    return (1 if opened.mode in _GRAY else 3), height, width


def _may_lie(opened: "Image.Image") -> bool:
    """Whether an image may have an orientation; to ask each for EXIF would cost as much as decoding it."""
    return opened.format not in _KNOWN_BLOCKS or not _BLOCKS.isdisjoint(opened.info)


def _open(image: Encoded) -> "Image.Image":
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("Pillow", "train") from None
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)


def _upright(opened: "Image.Image", channels: int, image_size: int | None, turn: bool) -> "Image.Image":
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    if image_size is not None and opened.format == "JPEG":
        # Large photographs are decoded at 1/2, 1/4 or 1/8 of their size, never below twice the wanted size.
        opened.draft(None, (2 * image_size, 2 * image_size))
    upright = ImageOps.exif_transpose(opened) if turn and _may_lie(opened) else opened
    if upright.mode.startswith("I"):
        deep = np.asarray(upright).astype(np.int64)
        upright = Image.fromarray((deep.clip(0, 65535) // 257).astype(np.uint8))
    if upright.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
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


def _pixels(image: "Image.Image") -> Pixels:
    flat = np.frombuffer(image.tobytes(), np.uint8)  # faster than numpy's own way to ask an image
    return flat.reshape(image.height, image.width, -1).transpose(2, 0, 1)


def _reason(image: Encoded, error: Exception) -> str:
    if isinstance(error, ImportError):
        raise error
    empty = (
        not image if isinstance(image, bytes) else Path(image).is_file() and not Path(image).stat().st_size
    )
    if empty:
        return "it is empty"
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image of a known kind"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
