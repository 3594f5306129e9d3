"""Photographs to paste objects on."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bisector.data.image_folder import is_image, told
from bisector.data.places import data_folders
from bisector.errors import missing_extra, require

_MOST = 200  # photographs that are held in memory

Photograph = NDArray[np.uint8]  # (h, w, 3)


def photographs(folder: str, size: int) -> tuple[list[Photograph], list[str]]:
    """Read the photographs in a folder, at any depth, or scikit-learn's two; and a line for each that is damaged.

    Args:
        folder: a path, or the name of a folder among the data sets; "" for the two photographs that come with
            scikit-learn.
        size: pixels; a shorter side of more than four times that is brought to it.

    Raises:
        ArgumentError: there is no such folder, or no image in it.
        MissingExtraError: without Pillow, or without scikit-learn where its photographs are wanted.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise missing_extra("Pillow", "detection") from None
    if not folder:
        return [shrunk(Image.fromarray(photograph), size) for photograph in _of_scikit_learn()], []
    place = _folder(folder)
    files = sorted(path for path in place.rglob("*") if is_image(path) and path.is_file())
    read, left_out = [], []
    for path in files[:: -(-len(files) // _MOST) or 1]:
        try:
            with Image.open(path) as opened:
                read.append(shrunk(ImageOps.exif_transpose(opened).convert("RGB"), size))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow's, for a damaged PNG
            left_out.append(f"background {told(path.name)}: {' '.join(str(error).split()):.100}")
    require(bool(read), "backgrounds", f"no image that can be read in {place}", "photographs")
    return read, left_out


def shrunk(image: Any, size: int) -> Photograph:
    """The pixels of an image whose shorter side is at most four times `size`."""
    scale = 4 * size / min(image.size)
    if scale < 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    return np.array(image)


def crop(
    photograph: Photograph,
    size: int,
    draws: tuple[float, float, float, float],
) -> Any:  # a Pillow image, RGB, size x size
    """A square of a photograph, brought to `size` pixels: its length, left and top edge are drawn, and a mirror."""
    from PIL import Image

    height, width = photograph.shape[:2]
    longest = min(height, width)
    shortest = min(size, longest)
    edge = shortest + round(draws[0] * (longest - shortest))
    left, top = round(draws[1] * (width - edge)), round(draws[2] * (height - edge))
    image = Image.fromarray(photograph[top : top + edge, left : left + edge])
    if edge != size:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws[3] < 0.5 else image


def _folder(folder: str) -> Path:
    for place in (Path(folder).expanduser(), *(data / folder for data in data_folders())):
        if place.is_dir():
            return place
    require(False, "backgrounds", repr(folder), "a folder of photographs")
    raise AssertionError


def _of_scikit_learn() -> list[Photograph]:
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    return [np.array(image) for image in load_sample_images().images]
