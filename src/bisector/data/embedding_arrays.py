"""Arrays as numpy stores them: an archive, or a pair of files, of embeddings or of scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisector.data.embedding_columns import ALIASES, Array, Columns, distinct_names, one_each, texts
from bisector.errors import ArgumentError, require
from bisector.files import reading


def read_npz(path: Path, embedding: str | None, label: str | None) -> Columns:
    """Read `embeddings` and `labels`, and what else there is, from an archive of arrays.

    Raises:
        ArgumentError: if the file cannot be read or an array is not there.
    """
    arrays = load_archive(path)
    scores_name, scores = find(arrays, "scores")
    return Columns(
        embeddings=needed(arrays, path, [embedding] if embedding else ALIASES["embeddings"]),
        labels=needed(arrays, path, [label] if label else ALIASES["labels"]),
        predictions=find(arrays, "predictions")[1],
        losses=find(arrays, "losses")[1],
        scores=scores,
        names=find(arrays, "names")[1],
        splits=find(arrays, "splits")[1],
        scores_name=scores_name,
        class_names=class_names_in(arrays),
    )


def read_pair(embeddings: Path, labels: Path) -> Columns:
    """Read a pair of .npy files.

    Raises:
        ArgumentError: if a file is not there or cannot be read.
    """
    for path in (embeddings, labels):
        there = path.is_file()
        require(there, "file", f"{path}, which is not there", "a pair of .npy files, vectors and labels")
    return Columns(embeddings=load_array(embeddings), labels=load_array(labels))


def load_array(path: Path) -> Array:
    """The array of an .npy file; nothing is unpickled.

    Raises:
        ArgumentError: the file is no such thing.
        OSError: it cannot be opened.
    """
    found = _load(path)
    if isinstance(found, dict):
        raise ArgumentError(f"file: got {path}, an archive of arrays; expected one array, or the suffix .npz")
    return found


def load_archive(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file, by name; nothing is unpickled.

    Raises:
        ArgumentError: the file is no such thing.
        OSError: it cannot be opened.
    """
    found = _load(path)
    if not isinstance(found, dict):
        raise ArgumentError(f"file: got {path}, a single array; expected an archive, or the suffix .npy")
    return found


def find(arrays: Mapping[str, Array], what: str) -> tuple[str, Array | None]:
    """The first array that has an alias of `what`, with its name; None where there is none."""
    return next(((name, arrays[name]) for name in ALIASES[what] if name in arrays), (what, None))


def needed(arrays: Mapping[str, Array], path: Path, names: Sequence[str]) -> Array:
    """The first array that has one of these names.

    Raises:
        ArgumentError: none has.
    """
    for name in names:
        if name in arrays:
            return arrays[name]
    raise ArgumentError(
        f"file: {path} holds {', '.join(arrays) or 'nothing'}; expected one of {', '.join(names)}"
    )


def class_names_in(arrays: Mapping[str, Array]) -> tuple[str, ...] | None:
    """The names of the classes, where there are any.

    Raises:
        ArgumentError: they are no (C,) vector of words.
    """
    names = find(arrays, "class_names")[1]
    return (
        None
        if names is None
        else distinct_names(texts("class_names", one_each("class_names", names)).tolist())
    )


def _load(path: Path) -> Array | dict[str, Array]:
    with reading(f"file: got {path}; expected a readable {path.suffix.lower()} file"):
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                return {name: np.asarray(loaded[name]) for name in loaded.files}
        return np.asarray(loaded)
