"""What kind of data lies at a path."""

from collections import Counter
from pathlib import Path

import torch

from bisector.data.examples import InMemory
from bisector.data.idx import find_idx_images, idx_source
from bisector.data.image_examples import Reading
from bisector.data.image_folder import has_image_classes, image_folder_source, told
from bisector.data.parquet_images import image_column, parquet_image_source
from bisector.data.places import files_below
from bisector.data.source import Source
from bisector.data.torchvision_cifar import cifar_source, find_cifar
from bisector.errors import ArgumentError, missing_extra, require


def read_path(data: str, reading: Reading) -> Source | None:
    """Read what lies at a path, whatever its kind; None if that is nothing, or nothing known.

    In this order: a table of embeddings (.npz, .npy, Parquet without images), idx files, torchvision's CIFAR files,
    folders of images, Parquet with images.

    Args:
        data: a file or folder; or two files of arrays with a comma between.
        reading: how images are read.

    Raises:
        ArgumentError: if the data is of a known kind and cannot be read.
        MissingExtraError: if it needs a package that is not installed.
    """
    path = Path(data).expanduser()
    if data.endswith((".npy", ".npz")) and ("," in data or path.is_file()):
        return _embeddings(data if "," in data else str(path), reading)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return _parquet([path], path, reading)
    return _read_folder(path, reading) if path.is_dir() else None


def _read_folder(path: Path, reading: Reading) -> Source | None:
    archives = sorted(path.glob("*.npz"))
    cifar = find_cifar(path)
    if (path / "embeddings.npy").is_file() or len(archives) == 1:
        return _embeddings(str(archives[0] if archives else path), reading)
    images = bool(find_idx_images(path)) or cifar is not None or has_image_classes(path)
    require(
        not images or reading.label is None, "label", f"{reading.label!r} with {path}", "none: it is no table"
    )
    if find_idx_images(path):
        return idx_source(path)
    if cifar is not None:
        return cifar_source(cifar)
    if has_image_classes(path):
        return image_folder_source(path, reading)
    files = sorted(found for found in path.rglob("*.parquet") if not found.name.startswith("."))
    return _parquet(files, path, reading) if files else None


def what_is_there(data: str) -> str:
    """Say in a few words what lies at a path where nothing was recognised."""
    path = Path(data).expanduser()
    if path.is_file():
        return "that is a file of an unknown kind"
    if not path.is_dir():
        return "nothing is at that path"
    folders = sum(found.is_dir() and not found.name.startswith(".") for found in path.iterdir())
    kinds = Counter(told(found.suffix.lower()) or "no suffix" for found in files_below(path))
    words = [f"{folders} folder{'s' * (folders != 1)} without an image"] if folders else []
    words += [f"{count} file{'s' * (count != 1)} ({kind})" for kind, count in kinds.most_common(3)]
    return f"that folder holds {' and '.join(words) or 'nothing'}"


def _parquet(files: list[Path], path: Path, reading: Reading) -> Source:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "measure") from None
    try:
        with files[0].open("rb") as file:  # pyarrow opens no name that is not UTF-8
            schema = pyarrow.parquet.read_schema(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise ArgumentError(f"data: {files[0]}: cannot be read: {' '.join(str(error).split())}") from None
    own = b"bisector" in (schema.metadata or {})
    if image_column(schema) is None or own:
        return _embeddings(str(path), reading)
    return parquet_image_source(files, path, reading)


def _embeddings(path: str, reading: Reading) -> Source:
    from bisector.data.tables import read_embeddings

    table = read_embeddings(path, label=reading.label)
    parts: dict[str, torch.Tensor] = {}
    if table.splits is not None:
        rows: dict[str, list[int]] = {}
        for row, part in enumerate(table.splits):
            rows.setdefault(part, []).append(row)
        parts = {part: torch.tensor(found) for part, found in rows.items()}
    return Source(
        examples=InMemory(table.embeddings, table.names),
        labels=table.labels,
        class_names=table.class_names,
        parts=parts,
        left_out=table.left_out,
    )
