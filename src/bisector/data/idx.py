"""The idx files of MNIST and its kin: a header and then the bytes, plain or compressed by gzip."""

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bisector.data.examples import InMemory
from bisector.data.source import Source, part_of
from bisector.errors import ArgumentError, require

_IMAGES = re.compile(r"^(.*)images([-.])idx3-ubyte(\.gz)?$", re.IGNORECASE)


def read_idx(path: Path) -> Tensor:
    """Read one idx file of bytes, gzipped if its name ends in .gz.

    It holds two zeros, the type (8), how many dimensions, the sizes (big-endian), the data.

    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".

    Raises:
        ArgumentError: if the file is not an idx file of unsigned bytes, or shorter or longer than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ArgumentError(f"data: {path}: cannot be read: {error}") from None
    known = len(content) >= 4 and content[:3] == b"\0\0\x08"
    require(known, "data", f"{path}, which does not begin like one", "an idx file of unsigned bytes")
    sizes = np.frombuffer(content, ">u4", count=min(content[3], (len(content) - 4) // 4), offset=4).tolist()
    start = 4 + 4 * content[3]
    said = start + int(np.prod(sizes, dtype=object))
    require(len(content) == said, "data", f"{path} of {len(content)} bytes", f"{said}, as its header says")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(sizes).copy())


def find_idx_images(folder: Path) -> list[Path]:
    """Return the idx files of images in a folder, one of each name: plain where there is a compressed one too."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):
        if _IMAGES.match(path.name):  # x.gz comes before x
            found[path.name.lower().removesuffix(".gz")] = path
    return [found[name] for name in sorted(found)]


def idx_source(folder: Path, names: Sequence[str] | None = None) -> Source:
    """Read a folder of idx files: images and labels, for training ("train-…") and for test ("t10k-…", "test-…").

    The label values 0, 1, ... have the names that are given, or are their own.

    Raises:
        ArgumentError: if a file of labels is missing, a file is damaged, or images and labels differ in number.
    """
    images, labels = [], []
    parts: dict[str, Tensor] = {}
    start = 0
    for path in find_idx_images(folder):
        pixels = read_idx(path)
        classes = read_idx(_labels_of(path))
        require(pixels.dim() == 3, "data", f"{path} of {pixels.dim()} dimensions", "3: images, rows, columns")
        require(
            classes.shape == pixels.shape[:1],
            "data",
            f"{tuple(classes.shape)} labels for {len(pixels)} images in {path}",
            "one label an image",
        )
        rows = torch.arange(start, start + len(pixels))
        part = part_of(path.name) or "train"  # what is not named after a part is more to train on
        parts[part] = torch.cat([parts[part], rows]) if part in parts else rows
        images.append(pixels[:, None])
        labels.append(classes)
        start += len(pixels)
    shapes = sorted({tuple(pixels.shape[2:]) for pixels in images})
    require(len(shapes) == 1, "data", f"images of {shapes} in {folder}", "images of one size")
    values, numbered = torch.unique(torch.cat(labels), return_inverse=True)
    called = [names[v] if names and v < len(names) else str(v) for v in values.tolist()]
    return Source(
        examples=InMemory(torch.cat(images)),
        labels=numbered.long(),
        class_names=tuple(called),
        parts=parts,
        augmentation="crop-flip",
    )


def _labels_of(images: Path) -> Path:
    """The file of labels that belongs to a file of images: beside it, plain or compressed."""
    match = _IMAGES.match(images.name)
    assert match is not None
    wanted = f"{match[1]}labels{match[2]}idx1-ubyte".lower()
    beside = {path.name.lower(): path for path in images.parent.iterdir()}
    found = beside.get(wanted) or beside.get(f"{wanted}.gz")
    require(found is not None, "data", f"{images} without its labels", f"{wanted} beside it")
    assert found is not None
    return found
