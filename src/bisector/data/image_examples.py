"""Many images of files: decoded once into memory where they fit, and batch by batch where not."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from bisector.cores import available_cores
from bisector.data.examples import Examples, InMemory
from bisector.data.images import (
    DifferentImageError,
    Encoded,
    Header,
    Pixels,
    UnreadableImageError,
    decode_image,
    image_header,
)
from bisector.errors import ArgumentError, require, require_integer

DEFAULT_SIZE = 64
"""Side in pixels to which images of unequal size are brought."""

MEMORY = 2 * 2**30
"""Bytes that decoded images may take; more are decoded batch by batch."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageFiles:
    """Images that are decoded whenever a batch is made: for data sets that do not fit into memory.

    Args:
        images: paths or contents of files.
        names: of the images, for messages.
        channels: 1 or 3.
        size: height and width of an example.
        resized: whether images are brought to that size; if not, they have it.
    """

    def __init__(
        self,
        images: Sequence[Encoded],
        names: Sequence[str],
        channels: int,
        size: tuple[int, int],
        resized: bool,
        positions: Tensor | None = None,
    ) -> None:
        self._images = images
        self._names = names
        self._shape = (channels, *size)
        self._resized = resized
        self._positions = torch.arange(len(images)) if positions is None else positions

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (channels, height, width)."""
        return self._shape

    def __len__(self) -> int:
        return len(self._positions)

    def batch(self, positions: Tensor) -> Tensor:
        """Decode these images.

        Raises:
            ArgumentError: if a file cannot be decoded; it names the file.
        """
        origins = self._positions[positions].tolist()
        pixels = np.empty((len(origins), *self._shape), np.uint8)

        def fill(row: int) -> None:
            index = origins[row]
            try:
                pixels[row] = _decode_one(self._images[index], self._shape, self._resized)
            except UnreadableImageError as error:
                raise ArgumentError(f"data: {self._names[index]}: cannot be read: {error}") from None

        if torch.utils.data.get_worker_info() is None:
            _in_threads(fill, range(len(origins)))
        else:
            for row in range(len(origins)):
                fill(row)
        return torch.from_numpy(pixels).float().div_(255)

    def select(self, positions: Tensor) -> "ImageFiles":
        """Return the subset at these positions; nothing is read."""
        return ImageFiles(
            self._images,
            self._names,
            self._shape[0],
            self._shape[1:],
            self._resized,
            self._positions[positions],
        )

    def name(self, position: int) -> str:
        """Return the name of the file."""
        return self._names[int(self._positions[position])]


class ReadImages(NamedTuple):
    """What `read_images` returns: the examples, which images they are, and a line for each that cannot be read."""

    examples: Examples
    readable: Tensor  # (N,) positions among the images given
    left_out: list[str]


def read_images(
    images: Sequence[Encoded],
    names: Sequence[str],
    *,
    image_size: int | None = None,
    memory: int = MEMORY,
) -> ReadImages:
    """Read images of any kind and size as examples of one shape.

    Gray stays one channel if all images are gray. Images that all have one size keep it; others are brought to a
    square of `DEFAULT_SIZE`: shorter side to that length, antialiased, and the middle cut out.

    Args:
        images: paths or contents of files.
        names: of the images, by which a person finds them.
        image_size: side of the square to which all images are brought.
        memory: bytes that the decoded images may take. If they need more, they are decoded batch by batch; then a
            damaged file is found by its header only, or else when its batch is made.

    Raises:
        ArgumentError: if no image can be read, or the size is illegal.
    """
    if image_size is not None:
        require_integer("image_size", image_size, least=1)
    alike = _decode_alike(images, memory) if image_size is None else None
    if alike is not None:
        return _in_memory(*alike, range(len(images)), names, {})

    headers = _in_threads(_or_reason(image_header), images)
    shapes = [header for header in headers if not isinstance(header, str)]
    require(bool(shapes), "data", f"{len(images)} images, none of which can be read", "images")
    channels = max(shape[0] for shape in shapes)
    sizes = {shape[1:] for shape in shapes}
    side = image_size if image_size is not None or len(sizes) == 1 else DEFAULT_SIZE
    height, width = next(iter(sizes)) if side is None else (side, side)
    good = [index for index, header in enumerate(headers) if not isinstance(header, str)]
    failed = {index: header for index, header in enumerate(headers) if isinstance(header, str)}
    if len(good) * channels * height * width <= memory:
        chosen = [images[index] for index in good]
        pixels, outcome = _decode(chosen, (channels, height, width), resized=side is not None)
        return _in_memory(pixels, outcome, good, names, failed)
    examples = ImageFiles(
        [images[index] for index in good],
        [names[index] for index in good],
        channels,
        (height, width),
        side is not None,
    )
    return ReadImages(examples, torch.tensor(good), _told(names, failed))


def _decode_alike(images: Sequence[Encoded], memory: int) -> tuple[Pixels, list[str | None]] | None:
    """Decode images that all have the header of the first, opening each once; None as soon as one has another."""
    for image in images:
        try:
            first = image_header(image)
        except UnreadableImageError:
            continue
        if len(images) * math.prod(first) > memory:
            return None
        try:
            return _decode(images, first, resized=False, expected=first)
        except DifferentImageError:
            return None
    return None


def _decode(
    images: Sequence[Encoded], shape: Header, *, resized: bool, expected: Header | None = None
) -> tuple[Pixels, list[str | None]]:
    """The pixels (N, *shape), and for each image the reason why it cannot be read, or None."""
    pixels = np.empty((len(images), *shape), np.uint8)

    def fill(row: int) -> None:
        pixels[row] = _decode_one(images[row], shape, resized, expected)

    return pixels, _in_threads(_or_reason(fill), range(len(images)))


def _decode_one(image: Encoded, shape: Header, resized: bool, expected: Header | None = None) -> Pixels:
    decoded = decode_image(image, shape[0], shape[1] if resized else None, expected)
    if decoded.shape != shape:
        raise UnreadableImageError(f"its header says {shape[2]} x {shape[1]} pixels, its content does not")
    return decoded


def _in_memory(
    pixels: Pixels,
    outcome: Sequence[str | None],
    origins: Sequence[int],
    names: Sequence[str],
    failed: dict[int, str],
) -> ReadImages:
    whole = [row for row, reason in enumerate(outcome) if reason is None]
    require(bool(whole), "data", f"{len(names)} images, none of which can be read", "images")
    failed |= {origins[row]: reason for row, reason in enumerate(outcome) if reason is not None}
    kept = [origins[row] for row in whole]
    values = torch.from_numpy(pixels if len(whole) == len(pixels) else pixels[whole])
    return ReadImages(
        InMemory(values, [names[index] for index in kept]), torch.tensor(kept), _told(names, failed)
    )


def _told(names: Sequence[str], failed: Mapping[int, str]) -> list[str]:
    return [f"{names[index]}: cannot be read: {failed[index]}" for index in sorted(failed)]


def _or_reason(function: Callable[[Item], Result]) -> Callable[[Item], Result | str]:
    """The function, but what cannot be read gives the reason instead of an error."""

    def tried(item: Item) -> Result | str:
        try:
            return function(item)
        except UnreadableImageError as error:
            return str(error)

    return tried


def _in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results in order; decoders let go of Python's lock, so that threads help."""
    work = list(items)
    threads = min(8, available_cores())
    size = min(64, max(1, math.ceil(len(work) / threads)))

    def run(start: int) -> list[Result]:
        return [function(item) for item in work[start : start + size]]

    with ThreadPoolExecutor(threads) as pool:
        return [result for results in pool.map(run, range(0, len(work), size)) for result in results]
