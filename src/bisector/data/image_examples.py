"""Many images of files: decoded once into memory where they fit, and batch by batch where not."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
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
    PixelRange,
    Pixels,
    UnreadableImageError,
    decode_image,
    image_header,
    pixel_values,
    range_of,
)
from bisector.errors import ArgumentError, require

DEFAULT_SIZE = 64
"""Side in pixels to which images of unequal size are brought."""

LARGEST_SIZE = 128
"""Side in pixels of the largest square that a training takes without being told: its memory grows with the area."""

MEMORY = 2 * 2**30
"""Bytes that decoded images may take; more are decoded batch by batch."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ReadImages(NamedTuple):
    """What `read_images` returns: the examples, which images they are, and a line for each that cannot be read."""

    examples: Examples
    readable: Tensor  # (N,) positions among the images given
    left_out: list[str]
    notes: list[str]  # a line for each thing that was chosen: the scale of deep pixels, the size
    pixel_range: PixelRange | None  # None without deep pixels


class Reading(NamedTuple):
    """How a data set is read; every reader is given one."""

    image_size: int | None = None  # side of the square to which all images are brought
    memory: int = MEMORY  # bytes that the decoded images may take
    # side of a square to which images of one size are brought that have more pixels than it
    largest: int | None = None
    pixel_range: PixelRange | None = None  # the scale of deep images, where a model was trained with it
    label: str | None = None  # the column of labels in a table
    decoded: Path | None = None  # a folder where decoded images are kept, and found again
    seed: int = 0  # decides the parts of a data set that is divided by chance
    # given the names of the classes before images are read, where they are known; raises for what they do not fit
    check_classes: Callable[[Sequence[str]], None] | None = None

    def images(self, images: Sequence[Encoded], names: Sequence[str]) -> ReadImages:
        """Read these images so (`read_images`)."""
        if self.decoded is None:
            return read_images(images, names, self)
        from bisector.data.decoded import decoded_once

        return decoded_once(self.decoded, images, names, self)


@dataclass(frozen=True)
class _Form:
    """The shape that images get, and how they are decoded."""

    shape: tuple[int, int, int]  # channels, height, width
    resized: bool = False
    pixel_range: PixelRange | None = None
    expected: Header | None = None

    def decode(self, image: Encoded) -> Pixels:
        channels, height, width = self.shape
        size = height if self.resized else None
        decoded = decode_image(image, channels, size, self.expected, pixel_range=self.pixel_range)
        if decoded.shape != self.shape:
            raise UnreadableImageError(f"its header says {width} x {height} pixels, its content does not")
        return decoded


class ImageFiles:
    """Images that are decoded whenever a batch is made: for data sets that do not fit into memory."""

    def __init__(self, images: Sequence[Encoded], names: Sequence[str], form: _Form) -> None:
        self._images, self._names, self._form = images, names, form
        self.shape = form.shape

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, positions: Tensor) -> Tensor:
        """Decode these images.

        Raises:
            ArgumentError: if a file cannot be decoded; it names the file.
        """
        pixels = np.empty((len(positions), *self.shape), np.uint8)

        def fill(place: tuple[int, int]) -> None:
            row, index = place
            try:
                pixels[row] = self._form.decode(self._images[index])
            except UnreadableImageError as error:
                raise ArgumentError(f"data: {self._names[index]}: cannot be read: {error}") from None

        places = list(enumerate(positions.tolist()))
        if torch.utils.data.get_worker_info() is None:
            _in_threads(fill, places)
        else:
            for place in places:
                fill(place)
        return torch.from_numpy(pixels).float().div_(255)

    def name(self, position: int) -> str:
        """Return the name of the file."""
        return self._names[position]


def read_images(images: Sequence[Encoded], names: Sequence[str], reading: Reading) -> ReadImages:
    """Read images of any kind and size as examples of one shape.

    Gray stays one channel if all images are gray. Images that all have one size keep it; others are brought to a
    square of `DEFAULT_SIZE`: shorter side to that length, antialiased, and the middle cut out. Pixels of more than
    8 bits are brought to 8 by one scale for all images (`images.range_of` their least and greatest value).

    If the decoded images need more memory than they may take, they are decoded batch by batch; then a damaged file
    is found by its header only, or else when its batch is made. Deep images are always decoded once before, to
    find their scale.

    Raises:
        ArgumentError: if no image can be read, or deep pixels are whole numbers in some images and floating-point
            ones in others, which no scale fits.
    """
    side, scale = reading.image_size, reading.pixel_range
    failed: dict[int, str] = {}
    notes = []
    alike = None if side is not None else _decode_alike(images, names, reading)
    if alike is not None:
        return alike
    headers = _read_each(image_header, dict(enumerate(images)), failed)
    deep = [index for index, header in headers.items() if header.deep]
    if deep:
        scale, told = _one_range(images, names, deep, scale, failed)
        notes.append(told)
    good = [index for index in headers if index not in failed]
    _require_readable(names, good, failed)
    sizes = {headers[index][1:3] for index in good}
    height, width = min(sizes)
    if side is None and len(sizes) > 1:
        side = DEFAULT_SIZE
        notes.append(f"images of unequal sizes become {side} x {side}; --image-size chooses another")
    elif side is None and _too_large(height, width, reading.largest):
        side = reading.largest
        notes.append(f"images of {width} x {height} become {side} x {side}; --image-size chooses another")
    height, width = (height, width) if side is None else (side, side)
    shape = (max(headers[index].channels for index in good), height, width)
    form = _Form(shape, side is not None, scale)
    examples: Examples
    if len(good) * math.prod(shape) <= reading.memory:
        examples, good = _in_memory({index: images[index] for index in good}, names, form, failed)
    else:
        examples = ImageFiles([images[index] for index in good], [names[index] for index in good], form)
    return ReadImages(examples, torch.tensor(good), _told(names, failed), notes, scale if deep else None)


def decode_each(
    images: Sequence[Encoded],
    names: Sequence[str],
    shape: Sequence[int],
    pixel_range: PixelRange | None = None,
) -> tuple[Tensor, list[int], list[str]]:  # (M, *shape) from 0 to 1
    """Decode images one by one to a shape that is given; what cannot be is named, and no other depends on it.

    Args:
        images: paths, or contents of files.
        names: of them, for the lines.
        shape: (channels, height, width). A square is filled as in training: the shorter side brought to its length
            and the middle cut out; where the sides differ, images must have them.
        pixel_range: the values of pixels of more than 8 bits that become 0 and 255; None: each image its own.

    Returns:
        The M images that can be decoded, their positions, and a line for each of the others.
    """
    channels, height, width = shape
    pixels = np.empty((len(images), channels, height, width), np.uint8)

    def fill(place: tuple[int, Encoded]) -> None:
        row, image = place
        size = height if height == width else None
        decoded = decode_image(image, channels, size, pixel_range=pixel_range)
        if decoded.shape != pixels.shape[1:]:
            got = f"{decoded.shape[2]} x {decoded.shape[1]} pixels"
            raise UnreadableImageError(f"it has {got}, the model takes {width} x {height} alone")
        pixels[row] = decoded

    failed: dict[int, str] = {}
    good = list(_read_each(fill, dict(enumerate(enumerate(images))), failed))
    return torch.from_numpy(pixels[good]).float().div_(255), good, _told(names, failed)


def common_range(
    images: Sequence[Encoded], names: Sequence[str], given: PixelRange | None = None
) -> tuple[PixelRange | None, str]:
    """Return the one scale of all images of more than 8 bits and a line to tell of it; None where there are none.

    What cannot be read has no say; the scale that is given, of a training, wins.

    Raises:
        ArgumentError: deep pixels are whole numbers in some images and floating-point ones in others.
    """
    headers = _read_each(image_header, dict(enumerate(images)), {})
    deep = [index for index, header in headers.items() if header.deep]
    return _one_range(images, names, deep, given, {}) if deep else (None, "")


def _one_range(
    images: Sequence[Encoded],
    names: Sequence[str],
    deep: Sequence[int],
    given: PixelRange | None,
    failed: dict[int, str],
) -> tuple[PixelRange | None, str]:
    """The scale of the deep images and a line to tell of it; what cannot be read is added to `failed`."""
    values = _read_each(pixel_values, {index: images[index] for index in deep}, failed)
    if not values:
        return given, f"{len(deep)} images of more than 8 bits, none of which can be read"
    low, high = min(v[0] for v in values.values()), max(v[1] for v in values.values())
    count = f"{len(values)} of {len(images)} images have more than 8 bits"
    if given is not None:
        beyond = sum(value[0] < given[0] or value[1] > given[1] for value in values.values())
        cut = f" (images with values beyond, which are cut: {beyond})" if beyond else ""
        return given, (
            f"{count}: as in training, their values {given[0]:g} to {given[1]:g} become 0 to 255{cut}; "
            f"they reach from {low:g} to {high:g}"
        )
    kinds = {whole: names[index] for index, (_, _, whole) in reversed(values.items())}  # the first of each
    if len(kinds) > 1:
        got = f"whole numbers as pixels of {kinds[True]} and floating-point ones of {kinds[False]}"
        require(False, "data", got, "one kind in all images of more than 8 bits, which get one scale")
    found = range_of(low, high, True in kinds)
    return found, f"{count}: their values {found[0]:g} to {found[1]:g} become 0 to 255 in every part"


def _too_large(height: int, width: int, largest: int | None) -> bool:
    return largest is not None and height * width > largest**2


def _decode_alike(images: Sequence[Encoded], names: Sequence[str], reading: Reading) -> ReadImages | None:
    """Decode images that all have the header of the first, opening each once; None as soon as one has another."""
    for image in images:
        try:
            first = image_header(image)
        except UnreadableImageError:
            continue
        shape = first[:3]
        resized = _too_large(first.height, first.width, reading.largest)
        if first.deep or resized or len(images) * math.prod(shape) > reading.memory:
            return None
        failed: dict[int, str] = {}
        try:
            form = _Form(shape, expected=first)
            examples, good = _in_memory(dict(enumerate(images)), names, form, failed)
        except DifferentImageError:
            return None
        return ReadImages(examples, torch.tensor(good), _told(names, failed), [], None)
    return None


def _in_memory(
    images: Mapping[int, Encoded], names: Sequence[str], form: _Form, failed: dict[int, str]
) -> tuple[InMemory, list[int]]:
    """Decode images; those that can be read, and their positions. The others are added to `failed`."""
    pixels = np.empty((len(images), *form.shape), np.uint8)
    places = {index: (row, image) for row, (index, image) in enumerate(images.items())}

    def fill(place: tuple[int, Encoded]) -> None:
        row, image = place
        pixels[row] = form.decode(image)

    good = list(_read_each(fill, places, failed))
    _require_readable(names, good, failed)
    if len(good) < len(images):
        pixels = pixels[[places[index][0] for index in good]]
    return InMemory(torch.from_numpy(pixels), [names[index] for index in good]), good


def _require_readable(names: Sequence[str], good: Sequence[int], failed: Mapping[int, str]) -> None:
    why = "".join(f" ({line})" for line in _told(names, failed)[:1])
    require(bool(good), "data", f"{len(names)} images, none of which can be read{why}", "images")


def _told(names: Sequence[str], failed: Mapping[int, str]) -> list[str]:
    return [f"{names[index]}: cannot be read: {failed[index]}" for index in sorted(failed)]


def _read_each(
    function: Callable[[Item], Result], items: Mapping[int, Item], failed: dict[int, str]
) -> dict[int, Result]:
    """The results by index; for what cannot be read the reason is put into `failed`."""

    def tried(item: Item) -> Result | UnreadableImageError:
        try:
            return function(item)
        except UnreadableImageError as error:
            return error

    found: dict[int, Result] = {}
    for index, result in zip(items, _in_threads(tried, items.values()), strict=True):
        if isinstance(result, UnreadableImageError):
            failed[index] = str(result)
        else:
            found[index] = result
    return found


def _in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results in order; decoders let go of Python's lock, so that threads help."""
    work = list(items)
    threads = min(8, available_cores())
    size = min(64, max(1, math.ceil(len(work) / threads)))

    def run(start: int) -> list[Result]:
        return [function(item) for item in work[start : start + size]]

    with ThreadPoolExecutor(threads) as pool:
        return [result for results in pool.map(run, range(0, len(work), size)) for result in results]
