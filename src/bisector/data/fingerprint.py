"""Whether the data are still the same."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from bisector.data.dataset import Dataset
from bisector.data.places import files_below
from bisector.data.plugins import plugin_of

_SAMPLED = 64  # examples of each part that are looked at


def fingerprint(data: str, dataset: Dataset) -> str:
    """Return a digest of the files under a path and of what was read from them.

    Of the files it takes names, sizes and times; of what was read, also of a data set by name, the labels and some
    examples of each part. No file is read again: a million of them take seconds. Of a plugin it takes the text of
    its file, and its options.
    """
    digest = hashlib.sha256(repr((dataset.class_names, dataset.test_names, dataset.shape)).encode())
    plugin = plugin_of(data)
    if plugin is not None:
        digest.update(plugin.file.read_bytes() + repr(plugin.options).encode())
    for file, name in () if plugin else _files(data):
        state = file.stat()
        digest.update(os.fsencode(f"\n{name} {state.st_size} {state.st_mtime_ns}"))
    for part in (dataset.train, dataset.validation, dataset.test):
        digest.update(part.labels.numpy().tobytes())
        some = torch.linspace(0, max(len(part) - 1, 0), min(_SAMPLED, len(part))).long()
        if len(some):
            digest.update(part.examples.batch(some).numpy().tobytes())
    return digest.hexdigest()[:16]


def _files(data: str) -> Iterator[tuple[Path, str]]:
    """Yield the files behind a path, sorted, with the names by which they are known there."""
    for word in data.split(",") if not Path(data).expanduser().exists() else [data]:
        path = Path(word).expanduser()
        if path.is_file():
            yield path, path.name
        elif path.is_dir():
            for file in sorted(files_below(path)):
                if file.is_file():
                    yield file, file.relative_to(path).as_posix()
