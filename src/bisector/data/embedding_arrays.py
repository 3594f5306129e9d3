"""Embeddings as numpy files: an archive, or a pair of arrays."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bisector.data.embedding_columns import Array, Columns
from bisector.errors import ArgumentError, require

_VECTORS = ("embeddings", "embedding", "x", "X", "features", "vectors")
_LABELS = ("labels", "label", "y", "targets", "target")


def read_npz(path: Path, embedding: str | None, label: str | None) -> Columns:
    """Read `embeddings` and `labels`, and what else there is, from an archive of arrays.

    Raises:
        ArgumentError: if the file cannot be read or an array is not there.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise ArgumentError(f"file: {path} cannot be read as npz: {error}") from None
    vectors = _find(arrays, path, [embedding] if embedding else _VECTORS)
    labels = _find(arrays, path, [label] if label else _LABELS)

    def optional(*names: str) -> Array | None:
        return next((arrays[name] for name in names if name in arrays), None)

    names = optional("class_names", "classes")
    return Columns(
        embeddings=vectors,
        labels=labels,
        predictions=optional("predictions", "prediction"),
        losses=optional("losses", "loss"),
        scores=optional("scores", "logits", "probabilities"),
        names=optional("names", "name", "paths"),
        splits=optional("splits", "split"),
        class_names=None if names is None else tuple(map(str, names.tolist())),
    )


def read_pair(embeddings: Path, labels: Path) -> Columns:
    """Read a pair of .npy files.

    Raises:
        ArgumentError: if a file is not there or cannot be read.
    """
    return Columns(embeddings=_load(embeddings), labels=_load(labels))


def _load(path: Path) -> Array:
    require(path.is_file(), "file", f"{path}, which is not there", "a pair of .npy files, vectors and labels")
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ArgumentError(f"file: {path} cannot be read as npy: {error}") from None
    return array


def _find(arrays: dict[str, Array], path: Path, names: Sequence[str]) -> Array:
    for name in names:
        if name in arrays:
            return arrays[name]
    raise ArgumentError(
        f"file: {path} holds {', '.join(arrays) or 'nothing'}; expected one of {', '.join(names)}"
    )
