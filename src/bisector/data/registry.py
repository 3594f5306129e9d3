"""Data sets by name or path."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

from bisector.data.dataset import Dataset, Part
from bisector.data.image_examples import MEMORY, Reading
from bisector.data.images import PixelRange
from bisector.data.named import cifar10_source, cifar100_source, fashion_mnist_source
from bisector.data.names import unknown_data
from bisector.data.plugins import plugin_of
from bisector.data.recognition import read_path, what_is_there
from bisector.data.resized import Resized
from bisector.data.source import Source, source_of
from bisector.data.splits import SPLITS
from bisector.errors import ArgumentError, require, require_choice, require_integer, require_number

SplitAlready = Callable[[float, int, int | None], Dataset]
"""``(imbalance, seed, image_size)``: a data set with a split of its own."""

Reader = Callable[[Reading], Source]
"""A data set that is divided here; how its images are read."""


def _digits(imbalance: float, seed: int, image_size: int | None) -> Dataset:
    from bisector.data.digits import digits

    return _resized(digits(imbalance=imbalance, seed=seed), image_size)


_SPLIT_ALREADY: Mapping[str, SplitAlready] = {"digits": _digits}
_READERS: Mapping[str, Reader] = {
    "fashion-mnist": fashion_mnist_source,
    "cifar10": cifar10_source,
    "cifar100": cifar100_source,
}


def load(
    data: str | PathLike[str],
    *,
    imbalance: float = 1.0,
    seed: int = 0,
    split: str = "standard",
    image_size: int | None = None,
    memory: int = MEMORY,
    largest: int | None = None,
    pixel_range: PixelRange | None = None,
    label: str | None = None,
    decoded: Path | None = None,
) -> Dataset:
    """Load a data set by name or path, divide it, and thin its training part to a long tail.

    A path may be a folder of images (one folder a class, or train and test folders of these), of idx files, of
    Parquet with encoded images, of torchvision's CIFAR files, or a table of embeddings. A name is looked for in the
    folder that the environment variable BISECTOR_DATA names and in ~/.cache/bisector, and then downloaded. A folder
    that is called like a data set is meant by "./digits".

    Args:
        data: one of `bisector.data.names.DATA_SETS`, a path, or a Python file that makes the data set
            (`bisector.data.plugins`).
        imbalance: training count of the commonest class over that of the rarest; 1 leaves the counts as they are.
        seed: decides the split, which classes are rare, and what is kept of them.
        split: "standard" (`standard_split`) or "open-set" (`open_set_split`).
        image_size: side in pixels of the square to which images are brought: the shorter side to this length,
            antialiased, and the middle cut out. None keeps the size that all images have, or takes 64.
        memory: bytes that decoded images may take; more are decoded batch by batch.
        largest: side of the square to which images of files are brought that all have one, larger size; None: they
            keep it.
        pixel_range: the values of pixels of more than 8 bits that become 0 and 255, as a model was trained with;
            the data's own (`images.range_of`) if None.
        label: the column of labels in a table, Parquet of images too; the one with a usual name if None.
        decoded: a folder in which decoded images are kept, for whoever reads the same images again.

    Raises:
        ArgumentError: for an unknown name, with the nearest known one, a path where nothing is recognised, an
            illegal number, or data that cannot be read.
        MissingExtraError: if the data set needs a package that is not installed.

    >>> load("digit")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: data: got 'digit'; did you mean 'digits'? expected one of digits, fashion-mnist,
    cifar10, cifar100, or a path, but nothing is at that path
    """
    require_number("imbalance", imbalance, least=1)
    require(require_integer("seed", seed, least=0) < 2**32, "seed", seed, "an integer below 2^32")
    data = fspath(data)
    divide = SPLITS[require_choice("split", split, SPLITS)]
    if image_size is not None:
        require_integer("image_size", image_size, least=1)
    reading = Reading(image_size, memory, largest, pixel_range, label, decoded)
    plugin = plugin_of(data)
    named = data in _SPLIT_ALREADY or data in _READERS
    require(
        label is None or not (named or plugin),
        "label",
        f"{label!r} with {data}",
        "none: its labels are known",
    )
    if data in _SPLIT_ALREADY:
        make = _SPLIT_ALREADY[data]
        if split == "standard":
            return make(imbalance, seed, image_size)
        source = source_of(make(1.0, seed, image_size))
    elif data in _READERS:
        source = _READERS[data](reading)
    elif plugin is not None:
        source = plugin.call("load_source", Source, reading)
    else:
        source = _read(data, reading)
    return _resized(divide(data, source, imbalance=imbalance, seed=seed), image_size)


def _read(data: str, reading: Reading) -> Source:
    try:
        source = read_path(data, reading)
    except OSError as error:
        raise ArgumentError(f"data: {data}: cannot be read: {error}") from None
    if source is None:
        raise unknown_data(data, what_is_there(data))
    return source


def _resized(dataset: Dataset, image_size: int | None) -> Dataset:
    """The data set with images of this size: readers that decode files have done it, others have not."""
    shape = dataset.shape
    if image_size is None or shape[1:] == (image_size, image_size):
        return dataset
    require(len(shape) == 3, "image_size", image_size, "none for embeddings: they are no images")

    def part(old: Part) -> Part:
        return Part(Resized(old.examples, image_size), old.labels)

    return replace(
        dataset, train=part(dataset.train), validation=part(dataset.validation), test=part(dataset.test)
    )
