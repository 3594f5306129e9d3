"""CIFAR-10 and CIFAR-100 as their authors publish them and torchvision unpacks them: pickled arrays."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bisector.data.examples import InMemory
from bisector.data.source import Source
from bisector.errors import ArgumentError, reason_of, require

_LAYOUTS: Mapping[str, tuple[tuple[str, ...], str, str]] = {
    "cifar-10-batches-py": (tuple(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"),
    "cifar-100-python": (("train",), "test", "meta"),
}
# All that the files need; whatever else a pickle asks for is refused, since it could run a program.
_HARMLESS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


def find_cifar(folder: Path) -> Path | None:
    """Return the folder that holds the files: this one or the one of torchvision's name inside; None if neither."""
    for inner in (folder, *(folder / name for name in _LAYOUTS)):
        if any((inner / meta).is_file() and (inner / test).is_file() for _, test, meta in _LAYOUTS.values()):
            return inner
    return None


def cifar_source(folder: Path) -> Source:
    """Read the pickled files of CIFAR-10 or CIFAR-100 (with its 100 fine classes).

    Nothing that a pickle may contain is executed: only arrays, lists and strings are read.

    Raises:
        ArgumentError: if a file is missing, damaged, or holds anything else.
    """
    train, test, meta = next(layout for layout in _LAYOUTS.values() if (folder / layout[2]).is_file())
    images, labels, sizes = [], [], []
    for name in (*train, test):
        rows = _unpickled(folder / name)
        pixels = rows.get("data")
        named = rows.get("fine_labels", rows.get("labels"))
        sound = isinstance(pixels, np.ndarray) and pixels.ndim == 2 and pixels.shape[1] == 3072
        require(
            sound and isinstance(named, list),
            "data",
            f"{folder / name}, which holds no images",
            "images of CIFAR",
        )
        assert isinstance(pixels, np.ndarray)
        assert isinstance(named, list)
        require(
            len(named) == len(pixels), "data", f"{len(named)} labels in {folder / name}", f"{len(pixels)}"
        )
        images.append(torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 3, 32, 32))
        labels += named
        sizes.append(len(pixels))
    names = _unpickled(folder / meta)
    rows_of = torch.split(torch.arange(len(labels)), [sum(sizes[:-1]), sizes[-1]])
    return Source(
        examples=InMemory(torch.cat(images)),
        labels=torch.tensor(labels),
        class_names=tuple(names.get("fine_label_names") or names.get("label_names") or ()),
        parts={"train": rows_of[0], "test": rows_of[1]},
        augmentation="crop-flip",
    )


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = _Arrays(file, encoding="latin1").load()
    except Exception as error:
        raise ArgumentError(f"data: {path}: cannot be read: {reason_of(error)}") from None
    require(
        isinstance(found, dict), "data", f"{path}, which holds a {type(found).__name__}", "a file of CIFAR"
    )
    return {str(key): value for key, value in found.items()}
