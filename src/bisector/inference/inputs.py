"""What a classifier is asked about: a data set with labels, or images in files, with or without."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import torch
from torch import Tensor

from bisector.data.dataset import Dataset
from bisector.data.examples import Examples
from bisector.data.image_examples import Reading, decode_each
from bisector.data.image_folder import FoundImage, find_images, is_image, told
from bisector.data.images import Encoded
from bisector.data.places import resolvable
from bisector.data.registry import holds_images, load, read_source, unlabelled_parquet
from bisector.data.source import PARTS, Source
from bisector.embedding.model import image_side, same_data
from bisector.errors import require, require_choice
from bisector.inference.predictor import Predictor


class Asked(NamedTuple):
    """A batch of examples, and what is known of each."""

    inputs: Tensor  # (B, *shape)
    names: list[str]
    labels: list[str | None]  # names of classes
    splits: list[str | None]


class _Rows(NamedTuple):
    """Rows of stored examples."""

    examples: Examples
    positions: Tensor  # (M,) of the rows
    labels: list[str]
    split: str | None


class Inputs:
    """Examples in batches, each made when it is asked for: memory does not grow with the files.

    Attributes:
        name: of the data, for a person.
        rows: how many there are, where all can be read.
        labelled: whether the label of any is known.
        split: whether the part of any is known.
        notes: a line for each thing that was chosen.
        left_out: a line for each thing that was found and not used; it grows while files are read.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = 0
        self.labelled = self.split = False
        self.notes: list[str] = []
        self.left_out: list[str] = []

    def batches(self, size: int, *, spread: bool = False) -> Iterator[Asked]:
        """Yield batches of so many examples, the last of fewer.

        Args:
            size: of a batch.
            spread: one batch alone, of examples from everywhere.
        """
        raise NotImplementedError


def open_inputs(
    model: Predictor, data: Sequence[str] = (), *, part: str = "all", label: str | None = None
) -> Inputs:
    """Open what a model shall be asked about.

    The data that the model was trained on are divided, and thinned, as they were in training; all others are taken
    as they are. Images in files need no label: where folders are called like classes of the model, they are.

    Args:
        model: that is asked.
        data: one name or path of a data set, paths of images, or of folders of images; what the model was trained
            on if empty.
        part: "all", "train", "validation" or "test", where the data are divided.
        label: the column of labels in a table; Parquet of images without one needs none.

    Raises:
        ArgumentError: the data cannot be read, or the part is empty.
    """
    require_choice("part", part, ("all", *PARTS))
    trained = model.trained
    words = [resolvable(word) for word in data] or [trained.task.data]
    stored = len(words) == 1 and (not data or same_data(words[0], trained.task.data))
    if not stored and all(_of_images(Path(word)) for word in words):
        require(label is None, "label", f"{label!r} with {data[0]}", "none: it is no table")
        return _ImageFiles(model, [Path(word) for word in words], part)
    rows = unlabelled_parquet(Path(words[0])) if not stored and len(words) == 1 and label is None else None
    if rows is not None:
        require(part == "all", "part", f"{part!r} of {words[0]}, which has no labels", "all")
        return _ImageFiles(model, [Path(words[0])], part, rows)
    require(
        len(words) == 1, "data", ", ".join(words[:3]), "one data set, or images and folders of images alone"
    )
    return _Stored(model, words[0], part, label, as_trained=stored)


def _of_images(path: Path) -> bool:
    return holds_images(path) if path.is_dir() else path.is_file() and is_image(path)


class _Stored(Inputs):
    """A data set that `bisector.data.registry` reads."""

    def __init__(
        self, model: Predictor, data: str, part: str, label: str | None, *, as_trained: bool
    ) -> None:
        super().__init__(data)
        trained = model.trained
        size = image_side(model.model, data)
        if as_trained:
            task = trained.task
            whole: Dataset | Source = load(
                data,
                imbalance=task.imbalance,
                seed=trained.seed,
                split=task.split,
                image_size=size if task.image_size is None else task.image_size,
                pixel_range=trained.pixel_range,
                label=label or task.label,
            )
        else:
            whole = read_source(data, Reading(size, pixel_range=trained.pixel_range, label=label))
        shape = whole.shape if isinstance(whole, Dataset) else whole.examples.shape
        require(shape == model.shape, "data", f"{data}, examples of shape {shape}", f"{model.shape}")
        found = _divided(whole)
        self._rows = [rows for rows in found if part in {"all", rows.split}]
        self.rows = sum(len(rows.positions) for rows in self._rows)
        parts = ", ".join(dict.fromkeys(rows.split or "no part" for rows in found if len(rows.positions)))
        require(
            self.rows > 0, "part", f"{part!r} of {data}, with {parts or 'no example'}", "a part with examples"
        )
        self.labelled, self.split = True, any(rows.split for rows in self._rows)
        self.notes, self.left_out = list(whole.notes), list(whole.left_out)

    def batches(self, size: int, *, spread: bool = False) -> Iterator[Asked]:
        for examples, positions, labels, split in self._rows:
            step = max(1, len(positions) // size) if spread else 1
            chosen = torch.arange(len(positions))[::step]
            for batch in torch.split(chosen, size):
                inputs = examples.batch(positions[batch])
                names = [told(examples.name(position)) for position in positions[batch].tolist()]
                yield Asked(inputs, names, [labels[row] for row in batch.tolist()], [split] * len(batch))
                if spread:
                    return


def _divided(data: Dataset | Source) -> list[_Rows]:
    """Return the rows of each part, in the order of training, validation and test; rows in none come last."""
    if isinstance(data, Dataset):
        found = []
        for key in PARTS:
            part = getattr(data, key)
            names = data.test_names if key == "test" and data.test_names else data.class_names
            labels = [names[label] for label in part.labels.tolist()]
            found.append(_Rows(part.examples, torch.arange(len(part)), labels, key))
        return found
    labels = [data.class_names[label] for label in data.labels.tolist()]
    rest = torch.ones(len(labels), dtype=torch.bool)
    found = []
    for key, positions in sorted(data.parts.items(), key=lambda part: PARTS.index(part[0])):
        rest[positions] = False
        found.append(_Rows(data.examples, positions, [labels[row] for row in positions.tolist()], key))
    left = rest.nonzero()[:, 0]
    others = [_Rows(data.examples, left, [labels[row] for row in left.tolist()], None)] if len(left) else []
    return [*found, *others]


class _ImageFiles(Inputs):
    """Images in files, folders or rows without labels, decoded batch by batch; what cannot be read is named."""

    def __init__(
        self,
        model: Predictor,
        paths: Sequence[Path],
        part: str,
        rows: Sequence[tuple[Encoded | None, str]] | None = None,
    ) -> None:
        super().__init__(", ".join(str(path) for path in paths[:3]) + (", …" if len(paths) > 3 else ""))
        shape = model.shape
        require(
            len(shape) == 3, "data", f"images in {paths[0]}", f"vectors of {shape[0]} numbers, as in training"
        )
        self._shape, self._scale = shape, model.trained.pixel_range
        found: list[FoundImage] = []
        for image, name in rows or ():
            if image is None:
                self.left_out.append(f"{name}: no image")
            else:
                found.append(FoundImage(image, name))
        for path in paths if rows is None else ():
            if path.is_dir():
                images, others = find_images(path)
                found += images
                self.left_out += others
            else:
                found.append(FoundImage(str(path), told(str(path))))
        known = {normalize("NFC", name) for name in model.class_names}
        folders = dict.fromkeys(image.label for image in found if image.label is not None)
        if folders and known.isdisjoint(folders):
            few = ", ".join(list(folders)[:3])
            self.notes.append(f"the folders ({few}) are none of the model's classes: taken for no labels")
            found = [image._replace(label=None) for image in found]
        self._found = [image for image in found if part in {"all", image.part}]
        require(bool(self._found), "part", f"{part!r} of {self.name}", "a part with images, or all")
        self.rows = len(self._found)
        self.labelled = any(image.label is not None for image in self._found)
        self.split = any(image.part is not None for image in self._found)

    def batches(self, size: int, *, spread: bool = False) -> Iterator[Asked]:
        chosen, failed = self._found, []
        if spread:
            chosen = chosen[:: max(1, len(chosen) // size)]
        read = 0
        for start in range(0, len(chosen), size):
            images = chosen[start : start + size]
            names = [image.name for image in images]
            pixels, good, lines = decode_each(
                [image.path for image in images], names, self._shape, self._scale
            )
            failed += lines
            self.left_out += lines
            read += len(good)
            kept = [images[index] for index in good]
            if kept:
                yield Asked(pixels, [i.name for i in kept], [i.label for i in kept], [i.part for i in kept])
                if spread:
                    return
        require(
            read > 0,
            "data",
            f"{len(failed)} images, none of which can be read ({''.join(failed[:1])})",
            "images",
        )
