"""Decodes the pictures of a detection data set: the pixels that its boxes speak of."""

from pathlib import Path

import torch
from torch import Tensor

from bisector.data.boxes.picture import Picture
from bisector.data.images import PixelRange, UnreadableImageError, decode_image
from bisector.errors import ArgumentError


def read_pixels(
    path: Path, picture: Picture, pixel_range: PixelRange | None = None
) -> Tensor:  # (3, H, W) uint8, RGB
    """Decode an image as it is stored: COCO's and VOC's boxes are in stored pixels, whatever EXIF says of them.

    Where the annotated size is that of the image turned upright by EXIF, and not the stored one, the boxes were
    drawn on the upright image, and it is turned.

    Args:
        path: of the file.
        picture: its annotation.
        pixel_range: the values that become 0 and 255 where a pixel has more than 8 bits; those that this picture
            needs (`data.images.range_of`) if None.

    Raises:
        ArgumentError: if the file is missing, broken or of another size than the annotation says.
    """
    where = f"image {picture.id} ({path})"
    if not path.is_file():
        raise ArgumentError(f"images: no file for {where}")
    try:
        pixels = decode_image(str(path), channels=3, upright=False, pixel_range=pixel_range)
        wanted = (picture.height, picture.width)
        if pixels.shape[1:] == wanted[::-1] != wanted:
            turned = decode_image(str(path), channels=3, pixel_range=pixel_range)
            pixels = turned if turned.shape[1:] == wanted else pixels
    except UnreadableImageError as error:
        raise ArgumentError(f"images: {where} cannot be read: {error}") from None
    if pixels.shape[1:] != wanted:
        height, width = pixels.shape[1:]
        raise ArgumentError(
            f"images: {where} is {width} x {height} pixels; its annotation says {picture.width} x {picture.height}"
        )
    return torch.from_numpy(pixels.copy())


def stored_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is stored, from its header.

    Raises:
        ArgumentError: if there is no such image.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return opened.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ArgumentError(f"images: {path} cannot be read: {error}") from None
