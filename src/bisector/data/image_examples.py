"""Many images of files: decoded once into memory where they fit, and batch by batch where not."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
from bisector.errors import ArgumentError, require, require_integer

DEFAULT_SIZE = 64
"""Side in pixels to which images of unequal size are brought."""

LARGEST_SIZE = 128
"""Side in pixels of the largest square that a training takes without being told: its memory grows with the area."""

MEMORY = 2 * 2**30
"""Bytes that decoded images may take; more are decoded batch by batch."""

Shape = tuple[int, int, int]
"""Channels, height and width of an example."""

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
        pixel_range: the values of deep pixels that become 0 and 1.
    """

    def __init__(
        self,
        images: Sequence[Encoded],
        names: Sequence[str],
        channels: int,
        size: tuple[int, int],
        resized: bool,
        pixel_range: PixelRange | None = None,
        positions: Tensor | None = None,
    ) -> None:
        self._images = images
        self._names = names
        self._shape: Shape = (channels, *size)
        self._resized = resized
        self._pixel_range = pixel_range
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
                pixels[row] = _decode_one(
                    self._images[index], self._shape, self._resized, pixel_range=self._pixel_range
                )
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
            self._pixel_range,
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
    notes: list[str]  # a line for each thing that was chosen: the scale of deep pixels, the size
    pixel_range: PixelRange | None  # None without deep pixels


class Reading(NamedTuple):
    """How a data set is read: the column of labels in a table, and the arguments of `read_images`.

    With a folder for decoded images, these are kept there and found there again.
    """

    image_size: int | None = None
    memory: int = MEMORY
    largest: int | None = None
    pixel_range: PixelRange | None = None
    label: str | None = None
    decoded: Path | None = None

    def images(self, images: "Sequence[Encoded]", names: Sequence[str]) -> "ReadImages":
        """Read these images so."""
        others = {"label", "decoded"}
        options = {name: value for name, value in self._asdict().items() if name not in others}
        read = partial(read_images, images, names, **options)
        if self.decoded is None:
            return read()
        from bisector.data.decoded import decoded_once

        return decoded_once(self.decoded, images, names, options, read)


def read_images(
    images: Sequence[Encoded],
    names: Sequence[str],
    *,
    image_size: int | None = None,
    memory: int = MEMORY,
    largest: int | None = None,
    pixel_range: PixelRange | None = None,
) -> ReadImages:
    """Read images of any kind and size as examples of one shape.

    Gray stays one channel if all images are gray. Images that all have one size keep it; others are brought to a
    square of `DEFAULT_SIZE`: shorter side to that length, antialiased, and the middle cut out. Pixels of more than
    8 bits are brought to 8 by one scale for all images (`images.range_of` their least and greatest value).

    Args:
        images: paths or contents of files.
        names: of the images, by which a person finds them.
        image_size: side of the square to which all images are brought.
        memory: bytes that the decoded images may take. If they need more, they are decoded batch by batch; then a
            damaged file is found by its header only, or else when its batch is made. Deep images are always decoded
            once before, to find their scale.
        largest: side of a square to which images of one size are brought that have more pixels than it.
        pixel_range: the scale of deep images, where a model was trained with it.

    Raises:
        ArgumentError: if no image can be read, the size is illegal, or deep pixels are whole numbers in some images
            and floating-point ones in others, which no scale fits.
    """
    if image_size is not None:
        require_integer("image_size", image_size, least=1)
    alike = _decode_alike(images, memory, largest) if image_size is None else None
    if alike is not None:
        return _in_memory(*alike, range(len(images)), names, {})

    headers = _in_threads(_or_reason(image_header), images)
    found = {index: header for index, header in enumerate(headers) if not isinstance(header, str)}
    failed = {index: header for index, header in enumerate(headers) if isinstance(header, str)}
    deep = [index for index, header in found.items() if header.deep]
    notes = []
    if deep:
        pixel_range, told = _one_range(images, names, deep, pixel_range, failed)
        notes.append(told)
    good = [index for index in found if index not in failed]
    _require_readable(names, good, failed)
    channels = max(found[index].channels for index in good)
    sizes = {(found[index].height, found[index].width) for index in good}
    side = image_size
    height, width = min(sizes)
    if side is None and len(sizes) > 1:
        side = DEFAULT_SIZE
        notes.append(f"images of unequal sizes become {side} x {side}; --image-size chooses another")
    elif side is None and largest is not None and _too_large(height, width, largest):
        side = largest
        notes.append(f"images of {width} x {height} become {side} x {side}; --image-size chooses another")
    height, width = (height, width) if side is None else (side, side)
    chosen = [images[index] for index in good]
    if len(good) * channels * height * width <= memory:
        pixels, outcome = _decode(
            chosen, (channels, height, width), resized=side is not None, pixel_range=pixel_range
        )
        read = _in_memory(pixels, outcome, good, names, failed)
        return read._replace(notes=notes, pixel_range=pixel_range if deep else None)
    called = [names[index] for index in good]
    examples = ImageFiles(chosen, called, channels, (height, width), side is not None, pixel_range)
    return ReadImages(
        examples, torch.tensor(good), _told(names, failed), notes, pixel_range if deep else None
    )


def common_range(
    images: Sequence[Encoded], names: Sequence[str], given: PixelRange | None = None
) -> tuple[PixelRange | None, str]:
    """Return the one scale of all images of more than 8 bits and a line to tell of it; None where there are none.

    What cannot be read has no say.

    Args:
        images: paths or contents of files.
        names: of the images, by which a person finds them.
        given: the scale, where a model was trained with it.

    Raises:
        ArgumentError: deep pixels are whole numbers in some images and floating-point ones in others.
    """
    headers = _in_threads(_or_reason(image_header), images)
    deep = [i for i, header in enumerate(headers) if not isinstance(header, str) and header.deep]
    return _one_range(images, names, deep, given, {}) if deep else (None, "")


def _one_range(
    images: Sequence[Encoded],
    names: Sequence[str],
    deep: Sequence[int],
    given: PixelRange | None,
    failed: dict[int, str],
) -> tuple[PixelRange | None, str]:
    """The scale of the deep images and a line to tell of it; what cannot be read is added to `failed`."""
    values = {}
    for index, read in zip(
        deep, _in_threads(_or_reason(pixel_values), [images[i] for i in deep]), strict=True
    ):
        if isinstance(read, str):
            failed[index] = read
        else:
            values[index] = read
    if not values:
        return given, f"{len(deep)} images of more than 8 bits, none of which can be read"
    low, high = min(v[0] for v in values.values()), max(v[1] for v in values.values())
    whole = [index for index, value in values.items() if value[2]]
    count = f"{len(values)} of {len(images)} images have more than 8 bits"
    if given is not None:
        beyond = sum(value[0] < given[0] or value[1] > given[1] for value in values.values())
        cut = f" (images with values beyond, which are cut: {beyond})" if beyond else ""
        return given, (
            f"{count}: as in training, their values {given[0]:g} to {given[1]:g} become 0 to 255{cut}; "
            f"they reach from {low:g} to {high:g}"
        )
    if len(whole) < len(values) and whole:
        other = next(index for index in values if index not in set(whole))
        require(
            False,
            "data",
            f"whole numbers as pixels of {names[whole[0]]} and floating-point ones of {names[other]}",
            "one kind in all images of more than 8 bits, which get one scale",
        )
    found = range_of(low, high, bool(whole))
    return found, f"{count}: their values {found[0]:g} to {found[1]:g} become 0 to 255 in every part"


def _too_large(height: int, width: int, largest: int) -> bool:
    return height * width > largest**2


def _decode_alike(
    images: Sequence[Encoded], memory: int, largest: int | None
) -> tuple[Pixels, list[str | None]] | None:
    """Decode images that all have the header of the first, opening each once; None as soon as one has another."""
    for image in images:
        try:
            first = image_header(image)
        except UnreadableImageError:
            continue
        shape = first[:3]
        resized = largest is not None and _too_large(first.height, first.width, largest)
        if first.deep or resized or len(images) * math.prod(shape) > memory:
            return None
        try:
            return _decode(images, shape, resized=False, expected=first)
        except DifferentImageError:
            return None
    return None


def _decode(
    images: Sequence[Encoded],
    shape: Shape,
    *,
    resized: bool,
    expected: Header | None = None,
    pixel_range: PixelRange | None = None,
) -> tuple[Pixels, list[str | None]]:
    """The pixels (N, *shape), and for each image the reason why it cannot be read, or None."""
    pixels = np.empty((len(images), *shape), np.uint8)

    def fill(row: int) -> None:
        pixels[row] = _decode_one(images[row], shape, resized, expected, pixel_range)

    return pixels, _in_threads(_or_reason(fill), range(len(images)))


def _decode_one(
    image: Encoded,
    shape: Shape,
    resized: bool,
    expected: Header | None = None,
    pixel_range: PixelRange | None = None,
) -> Pixels:
    size = shape[1] if resized else None
    decoded = decode_image(image, shape[0], size, expected, pixel_range=pixel_range)
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
    failed |= {origins[row]: reason for row, reason in enumerate(outcome) if reason is not None}
    _require_readable(names, whole, failed)
    kept = [origins[row] for row in whole]
    values = torch.from_numpy(pixels if len(whole) == len(pixels) else pixels[whole])
    examples = InMemory(values, [names[index] for index in kept])
    return ReadImages(examples, torch.tensor(kept), _told(names, failed), [], None)


def _require_readable(names: Sequence[str], good: Sequence[int], failed: Mapping[int, str]) -> None:
    why = "".join(f" ({line})" for line in _told(names, failed)[:1])
    require(bool(good), "data", f"{len(names)} images, none of which can be read{why}", "images")


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
