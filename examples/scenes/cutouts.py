"""Objects cut out of their images: by the alpha channel, by the colour of the border, or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bisector.errors import missing_extra

SOLID = 128
"""The least alpha of a pixel that belongs to an object."""

_ALIKE = 24  # of 255: the most that a channel may differ from the border's colour
_UNIFORM = 0.9  # share of the border that has its colour, if there is one

Cutout = NDArray[np.uint8]  # (h, w, 4) red, green, blue, alpha: no row or column is without a solid pixel


def read_cutout(
    path: Path,
    longest: int,  # pixels
) -> Cutout:
    """Read an image and cut its object out, no larger than `longest` pixels.

    Where the image has an alpha channel that hides something, that is the mask. Otherwise, where nine tenths of
    the border have nearly one colour, what has that colour and is connected with the border is cut away. Otherwise
    the whole rectangle is the object.

    Raises:
        ValueError: nothing is left.
        OSError: it cannot be read.
        MissingExtraError: without Pillow.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise missing_extra("Pillow", "detection") from None
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGBA")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    pixels = np.array(image)
    if int(pixels[..., 3].min()) == 255:
        pixels[..., 3] = 255 * stands_out(pixels[..., :3])
    return trimmed(pixels)


def stands_out(image: NDArray[np.uint8]) -> NDArray[np.bool_]:  # (h, w, 3) -> (h, w)
    """What is not of the border's colour, or is not connected with the border; everything if it has no one colour.

    >>> image = np.zeros((3, 4, 3), np.uint8)
    >>> image[1, 2] = 200
    >>> stands_out(image).astype(int)
    array([[0, 0, 0, 0],
           [0, 0, 1, 0],
           [0, 0, 0, 0]])
    """
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    colour = np.median(border, axis=0)
    alike = np.abs(image - colour).max(axis=-1) <= _ALIKE
    if (np.abs(border - colour).max(axis=-1) <= _ALIKE).mean() < _UNIFORM:
        return np.ones(image.shape[:2], bool)
    outside = alike.copy()
    outside[1:-1, 1:-1] = False
    reached = 0
    while reached < (reached := int(outside.sum())):
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        outside = grown & alike
    inside: NDArray[np.bool_] = ~outside
    return inside


def trimmed(pixels: NDArray[np.uint8]) -> Cutout:  # (h, w, 4)
    """Cut away the rows and columns around the object.

    Raises:
        ValueError: nothing is left.
    """
    left, top, right, bottom = extent(pixels[..., 3] >= SOLID)
    return pixels[top:bottom, left:right]


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:  # (h, w) -> left, top, right, bottom
    """The smallest rectangle that holds a mask; right and bottom are the first pixels beyond it.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("nothing stands out in it")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def posed(
    cutout: Cutout,
    longest: int,  # pixels
    angle: float,  # degrees, counter-clockwise
    flip: bool,
) -> Any:  # a Pillow image, RGBA
    """Bring a cutout to a size, mirror it, and turn it; the rows and columns around it are cut away."""
    from PIL import Image

    image = Image.fromarray(cutout)
    scale = longest / max(image.size)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if angle:
        image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    try:
        return image.crop(extent(np.asarray(image.getchannel("A")) >= SOLID))
    except ValueError:  # so thin that no pixel is half covered
        image.putalpha(255)
        return image
