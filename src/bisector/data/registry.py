"""Data sets by name or path."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

import torch

from bisector.data import named
from bisector.data.dataset import Dataset
from bisector.data.examples import InMemory, Resized
from bisector.data.idx import find_idx_images, idx_source
from bisector.data.image_examples import MEMORY, Reading
from bisector.data.image_folder import (
    has_image_classes,
    has_several_classes,
    image_folder_source,
    is_image,
    told,
)
from bisector.data.images import Encoded, PixelRange
from bisector.data.label_files import label_file_source
from bisector.data.parquet_images import image_column, image_schema, parquet_image_source, unlabelled_images
from bisector.data.places import DATA_SETS, files_below, unknown_data
from bisector.data.plugins import plugin_of
from bisector.data.source import Source
from bisector.data.splits import SPLITS
from bisector.data.torchvision_cifar import cifar_source, find_cifar
from bisector.errors import (
    ArgumentError,
    missing_extra,
    require,
    require_choice,
    require_integer,
    require_number,
)


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
    check_classes: Callable[[Sequence[str]], None] | None = None,
) -> Dataset:
    """Load a data set by name or path, divide it, and thin its training part to a long tail.

    A path may be a folder of images (one folder a class, train and test folders of these, or with a file of
    labels: `bisector.data.label_files`), of idx files, of Parquet with encoded images, of what `save_to_disk`
    wrote, of torchvision's CIFAR files, or a table of embeddings. A name is looked for in the folder that the
    environment variable BISECTOR_DATA names and in ~/.cache/bisector, and then downloaded. A folder that is
    called like a data set is meant by "./digits".

    Args:
        data: one of `bisector.data.places.DATA_SETS`, a path, or a Python file that makes the data set
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
        check_classes: given the names of the classes before images of files are read; raises if they do not fit.

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
    divide = SPLITS[require_choice("split", split, SPLITS)]
    how = Reading(image_size, memory, largest, pixel_range, label, decoded, seed, check_classes)
    source = read_source(data, how)
    return divide(fspath(data), source, imbalance=imbalance, seed=seed)


def read_source(data: str | PathLike[str], reading: Reading) -> Source:
    """Read a data set by name or path as it is: neither divided nor thinned.

    Args:
        data: as of `load`.
        reading: how it is read.

    Raises:
        ArgumentError: as `load`.
        MissingExtraError: if the data set needs a package that is not installed.

    >>> read_source("digits", Reading()).parts["test"].shape
    torch.Size([540])
    """
    data, image_size, label = fspath(data), reading.image_size, reading.label
    if image_size is not None:
        require_integer("image_size", image_size, least=1)
    plugin = plugin_of(data)
    labelled = data in DATA_SETS or plugin is not None
    require(label is None or not labelled, "label", f"{label!r} with {data}", "none: its labels are known")
    if data in DATA_SETS:
        source: Source = getattr(named, data.replace("-", "_"))(reading)
    elif plugin is not None:
        source = plugin.call("load_source", Source, reading)
    else:
        source = _read(data, reading)
    shape = source.examples.shape
    if image_size is not None and shape[1:] != (image_size, image_size):  # readers of files have done it
        require(len(shape) == 3, "image_size", image_size, "none for embeddings: they are no images")
        source = replace(source, examples=Resized(source.examples, image_size))
    return source


def holds_images(folder: Path) -> bool:
    """Whether a folder is read as images in files, in folders of classes or not: it holds no other kind of data.

    Raises:
        ArgumentError: it cannot be read.
    """
    try:
        if _is_table(folder) or find_idx_images(folder) or find_cifar(folder):
            return False
        if has_image_classes(folder):
            return True
        return not _parquet_files(folder) and any(map(is_image, files_below(folder)))
    except OSError as error:
        raise ArgumentError(f"data: {folder}: cannot be read: {error}") from None


def _read(data: str, reading: Reading) -> Source:
    """Read what lies at a path, whatever its kind.

    In this order: a table of embeddings (.npz, .npy, Parquet without images), idx files, torchvision's CIFAR files,
    images with a file of labels, folders of images, Parquet with images, Arrow.
    """
    path, source = Path(data).expanduser(), None
    try:
        if data.endswith((".npy", ".npz")) and ("," in data or path.is_file()):
            source = _embeddings(data if "," in data else str(path), reading)
        elif path.is_file() and path.suffix.lower() == ".parquet":
            source = _parquet([path], path, reading)
        elif path.is_dir():
            source = _read_folder(path, reading)
    except OSError as error:
        raise ArgumentError(f"data: {data}: cannot be read: {error}") from None
    if source is None:
        raise unknown_data(data, _what_is_there(path))
    return source


def _read_folder(path: Path, reading: Reading) -> Source | None:
    if _is_table(path):
        archives = sorted(path.glob("*.npz"))
        return _embeddings(str(archives[0] if archives else path), reading)
    idx, cifar = find_idx_images(path), find_cifar(path)
    listed, unread = (None, []) if idx or cifar else label_file_source(path, reading)
    if listed is not None:
        return listed
    if unread and not has_several_classes(path):  # it seems to have been meant
        files = list(files_below(path))
        held = any(file.suffix.lower() in {".parquet", ".arrow"} for file in files)  # the data themselves
        legal = "labels in a file beside the images, or a folder of each class"
        require(held or not any(map(is_image, files)), "data", f"{path}, {'; '.join(unread)}", legal)
    if not (idx or cifar or has_image_classes(path)):
        files = _parquet_files(path)
        return _parquet(files, path, reading) if files else _arrow(path, reading)
    unlabelled = reading.label is None
    require(unlabelled, "label", f"{reading.label!r} with {path}", "none: it is no table")
    if idx:
        return idx_source(path)
    return image_folder_source(path, reading, unread) if cifar is None else cifar_source(cifar)


def _is_table(folder: Path) -> bool:
    """Whether a folder is a table of embeddings in arrays."""
    return (folder / "embeddings.npy").is_file() or len(list(folder.glob("*.npz"))) == 1


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(found for found in folder.rglob("*.parquet") if not found.name.startswith("."))


def _arrow(path: Path, reading: Reading) -> Source | None:
    """Read what `save_to_disk` of Hugging Face wrote, images or embeddings; None where there is no Arrow file."""
    if not any(found.suffix == ".arrow" for found in files_below(path)):
        return None
    try:
        from bisector.data.tables.listing import list_files, locate
    except ImportError:
        raise missing_extra("pyarrow", "measure") from None
    listing = list_files(locate(path))
    if listing is None:
        return None
    files = [Path(file) for file in listing.files]
    if image_column(image_schema(files[0])) is None:
        return _embeddings(str(path), reading)
    parts = {Path(file): part for file, part in listing.splits().items()}
    return parquet_image_source(files, path, reading, parts)


_KNOWN = (
    ".parquet, .npz, a pair vectors.npy,labels.npy, a .py that makes data, and folders: of a subfolder of images a "
    "class, of images with a labels.csv, of Parquet, Arrow, idx or CIFAR files"
)


def _what_is_there(path: Path) -> str:
    """Say in a few words what lies at a path where nothing was recognised."""
    if path.is_file():
        return f"that is a file of an unknown kind; known are {_KNOWN}"
    if not path.is_dir():
        return "nothing is at that path"
    folders = sum(found.is_dir() and not found.name.startswith(".") for found in path.iterdir())
    kinds = Counter(told(found.suffix.lower()) or "no suffix" for found in files_below(path))
    words = [f"{folders} folder{'s' * (folders != 1)} without an image"] if folders else []
    words += [f"{count} file{'s' * (count != 1)} ({kind})" for kind, count in kinds.most_common(3)]
    flat = not folders and any(is_image(found) for found in path.iterdir())
    where = "; images belong into one subfolder a class, or need a labels.csv beside them" if flat else ""
    return f"that folder holds {' and '.join(words) or 'nothing'}{where}"


def unlabelled_parquet(path: Path) -> list[tuple[Encoded | None, str]] | None:
    """The encoded images of Parquet that has no labels, with their names; None where something else is there.

    Raises:
        ArgumentError: if a file is damaged.
        MissingExtraError: without pyarrow.
    """
    if path.is_file():
        return unlabelled_images([path], path) if path.suffix.lower() == ".parquet" else None
    files = [] if not path.is_dir() or _is_table(path) or has_image_classes(path) else _parquet_files(path)
    return unlabelled_images(files, path) if files else None


def _parquet(files: list[Path], path: Path, reading: Reading) -> Source:
    schema = image_schema(files[0])
    if image_column(schema) is None or b"bisector" in (schema.metadata or {}):
        return _embeddings(str(path), reading)
    return parquet_image_source(files, path, reading)


def _embeddings(path: str, reading: Reading) -> Source:
    from bisector.data.tables import read_embeddings

    table = read_embeddings(path, label=reading.label)
    parts: dict[str, list[int]] = {}
    for row, part in enumerate(table.splits or ()):
        parts.setdefault(part, []).append(row)
    return Source(
        examples=InMemory(table.embeddings, table.names),
        labels=table.labels,
        class_names=table.class_names,
        parts={part: torch.tensor(rows) for part, rows in parts.items()},
        left_out=table.left_out,
    )
