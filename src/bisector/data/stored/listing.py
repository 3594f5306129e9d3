"""Which files of a folder are the data set, in which order, and which of them are which split."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, TypeAlias

from bisector.data.embedding_columns import split_of_file
from bisector.data.stored.location import Location, one_line
from bisector.errors import ArgumentError, require

Format: TypeAlias = Literal["parquet", "arrow"]
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc", ".arrows")


@dataclass(frozen=True)
class Listing:
    """The files of a data set.

    Args:
        format: of all of them.
        files: in order.
        words: for each file the word that may say its split; the name of the file where it is not here.
        class_names: of columns of labels, where they stand beside the files.
    """

    format: Format
    files: tuple[str, ...]
    words: Mapping[str, str] = field(default_factory=dict)
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def splits(self) -> dict[str, str]:
        """The split of every file; empty unless all have one and not all the same."""
        words = {file: self.words.get(file, PurePosixPath(file).stem) for file in self.files}
        found = {file: split for file, word in words.items() if (split := split_of_file(word)) is not None}
        return found if len(found) == len(self.files) and len(set(found.values())) > 1 else {}


def list_files(location: Location) -> Listing | None:
    """The files that a path or URL means; None where none is Parquet or Arrow.

    Raises:
        ArgumentError: nothing is there, or a folder of Hugging Face is not as it should be.
    """
    suffix = PurePosixPath(location.path).suffix.lower()
    if not location.is_folder():
        known = suffix in PARQUET + ARROW
        return Listing("parquet" if suffix in PARQUET else "arrow", (location.path,)) if known else None
    files = location.files()
    if parquet := _select(files, PARQUET):
        return Listing("parquet", tuple(parquet))
    return _arrow_folder(location, files) if _select(files, ARROW) else None


def hugging_face_names(info: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The names of the classes in a dataset_info.json, for each column of type ClassLabel.

    >>> hugging_face_names({"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}})
    {'label': ('cat', 'dog')}
    """
    features = info.get("features")
    return {
        name: tuple(map(str, feature["names"]))
        for name, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }


def _arrow_folder(location: Location, files: Sequence[str]) -> Listing | None:
    top = PurePosixPath(location.path)
    splits = [str(name) for name in _json(location, top / "dataset_dict.json", files).get("splits", [])]
    folders = {top / split: split for split in splits} or {top: ""}
    words: dict[str, str] = {}
    names: dict[str, tuple[str, ...]] = {}
    for folder, split in folders.items():
        names = names or hugging_face_names(_json(location, folder / "dataset_info.json", files))
        state = _json(location, folder / "state.json", files)
        permuted = state.get("_indices_data_files")
        legal = "flatten_indices() before it is saved"
        require(not permuted, "file", f"{folder} with its rows in another order", legal)
        entries = state.get("_data_files", [])
        told = f"{folder / 'state.json'} with {str(entries)[:40]!r} as _data_files"
        require(isinstance(entries, list), "file", told, "a list of file names")
        for entry in entries:
            name = entry.get("filename") if isinstance(entry, dict) else entry
            require(isinstance(name, str), "file", told, "a list of file names")
            words[str(folder / str(name))] = split
    if words:
        return Listing("arrow", tuple(words), words if splits else {}, names)
    # What Hugging Face's map and filter leave beside the data is the same rows again.
    plain = [file for file in _select(files, ARROW) if not PurePosixPath(file).name.startswith("cache-")]
    return Listing("arrow", tuple(plain), class_names=names) if plain else None


def _json(location: Location, file: PurePosixPath, files: Sequence[str]) -> dict[str, Any]:
    """The object in a file; an empty one where there is no such file."""
    if str(file) not in files:
        return {}
    try:
        with location.open(str(file)) as stream:
            found = json.loads(stream.read())
    except (ValueError, OSError) as error:
        raise ArgumentError(f"file: {file} cannot be read as JSON: {one_line(error)}") from None
    require(isinstance(found, dict), "file", f"{file} with {str(found)[:20]!r}", "a JSON object")
    return dict(found)


def _select(files: Sequence[str], suffixes: Iterable[str]) -> list[str]:
    return [file for file in files if PurePosixPath(file).suffix.lower() in suffixes]
