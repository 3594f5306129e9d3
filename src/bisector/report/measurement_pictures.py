"""Small pictures of what a measurement found worth a look: of hard classes, confused pairs, suspected labels."""

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from bisector.data.source import PARTS
from bisector.errors import ArgumentError, missing_extra
from bisector.measurement.classes import hardest
from bisector.measurement.measurement import Measurement
from bisector.report.measurement_lead import called
from bisector.report.words import count, percent, shorten

if TYPE_CHECKING:
    from PIL import Image

    from bisector.data.dataset import Part
    from bisector.data.tables import EmbeddingTable

BYTES = 2 * 2**20
"""Of all pictures of a page together, as they stand in it; those that come after are left out, and that is said."""

_SIDE = 144  # pixels of a picture; 96 of the page, and something for sharp screens
_QUALITY = 80
_HARD, _OF_EACH = 5, 6  # hardest classes, and wrong rows of each
_PAIRS, _OF_PAIR = 3, 6
_SUSPECTS = 12
_SETTINGS = ("imbalance", "seed", "split", "image_size", "label")  # of `bisector.data.registry.load`


class Thumbnail(NamedTuple):
    """A picture as a data URI, and the words for it."""

    uri: str
    caption: str
    alternative: str
    name: str


class Album(NamedTuple):
    """Pictures under one heading."""

    title: str
    thumbnails: list[Thumbnail]


class Pictures(NamedTuple):
    """All pictures of a page, and what there is to say of those that are not there."""

    albums: Sequence[Album] = ()
    told: str = ""


NO_PICTURES = Pictures()
"""Where there is nothing to look at."""

_Wanted = tuple[int, str]
"""A row, and what is written below its picture."""

Reader = Callable[[int], "Image.Image | None"]
"""The picture of a row; None where there is none."""


def pictures_of(table: "EmbeddingTable", found: Measurement, read: Reader) -> Pictures:
    """The pictures of a measurement's page, as far as they are at hand.

    Args:
        table: that was measured.
        found: in it.
        read: the pictures of its rows, of `picture_reader`.
    """
    if table.names is None:
        return NO_PICTURES
    room, albums, left, missing = BYTES, [], 0, 0
    for title, rows in _wanted(table, found):
        shown = []
        for row, caption in rows:
            image = read(row)
            if image is None:
                missing += 1
                continue
            uri = _data_uri(image)
            if len(uri) > room:
                left += 1
                continue
            room -= len(uri)
            name = table.names[row]
            label = table.class_names[int(table.labels[row])]
            shown.append(Thumbnail(uri, caption, f"{shorten(name, 80)}, labelled {shorten(label, 60)}", name))
        if shown:
            albums.append(Album(title, shown))
    lines = []
    if missing and albums:
        lines.append(f"{count(missing, 'example')} without a picture that can be read.")
    if left:
        lines.append(f"{count(left, 'picture')} left out: all together may take {BYTES / 2**20:g} MiB.")
    errors = found.label_errors
    if albums and errors is not None and errors.suspects and not errors.trusted:
        lines.append(
            "No pictures of suspected labels: their judge is unreliable, it agrees with "
            f"{percent(errors.agreement)} % of the labels."
        )
    return Pictures(albums, " ".join(lines))


def picture_reader(table: "EmbeddingTable", images: str | None = None) -> Reader:
    """Find out where the pictures of a table's rows are, and return what reads that of a row.

    A row's picture is the file that it is named after: as it stands, or below the folder of the data. Where
    `images` names other data, these are loaded as they were embedded, and rows are found by part and name.

    Args:
        table: of embeddings.
        images: a folder of images or any data set with pictures; None for what the table says it was made of, as
            far as that is a folder.

    Raises:
        ArgumentError: if `images` cannot be read, or no row is found in it.
        MissingExtraError: without Pillow, where there are pictures.
    """
    given = table.data if images is None else images
    folder = Path(given) if given else None
    places = [folder.parent, folder] if folder is not None and folder.is_dir() else []
    if images is None:
        return _from_files(table, places)
    if table.names is None:
        raise ArgumentError(f"--images: got {images} for a table without names of its rows; expected names")
    if places and any(_file_of(table, row, places) for row in range(len(table))):
        return _from_files(table, places)
    return _from_data(table, images)


def _wanted(table: "EmbeddingTable", found: Measurement) -> Iterable[tuple[str, list[_Wanted]]]:
    """Which rows are worth a look, and under which heading; those of the highest loss come first."""
    names = table.class_names
    place = {name: c for c, name in enumerate(names)}
    if table.predictions is not None:
        wrong = _wrong_rows(table, found)
        predicted, labels = table.predictions, table.labels

        def of(one: int, other: int | None = None) -> list[int]:
            return [row for row in wrong if labels[row] == one and (other is None or predicted[row] == other)]

        for one in [one for one in hardest(found.classes) if one.errors][:_HARD]:
            rows = of(place[one.name])[:_OF_EACH]
            captions = [f"taken for {shorten(names[int(predicted[row])], 24)}" for row in rows]
            yield f"Wrong rows of {called(one.name)}", list(zip(rows, captions, strict=True))
        for pair in found.confused[:_PAIRS]:
            a, b = place[pair.first], place[pair.second]
            there, back = of(a, b), of(b, a)
            half = _OF_PAIR // 2
            there = there[: max(half, _OF_PAIR - len(back))]
            rows = [*there, *back[: _OF_PAIR - len(there)]]
            captions = [f"is {shorten(names[int(labels[row])], 24)}" for row in rows]
            title = f"Confused: {called(pair.first)} and {called(pair.second)}"
            yield title, list(zip(rows, captions, strict=True))
    if found.label_errors is not None and found.label_errors.trusted:
        suspects = found.label_errors.suspects[:_SUSPECTS]
        captions = [f"{shorten(s.label, 20)}, rather {shorten(s.suggested, 20)}" for s in suspects]
        yield "Suspected labels", list(zip([s.row for s in suspects], captions, strict=True))


def _wrong_rows(table: "EmbeddingTable", found: Measurement) -> list[int]:
    """Tested rows that were predicted to be of another class, the highest loss first."""
    assert table.predictions is not None
    split = found.tested_on.removesuffix(" rows")
    rows = table.rows_of(split) if split in PARTS else torch.arange(len(table))
    rows = rows[(table.predictions[rows] >= 0) & (table.predictions[rows] != table.labels[rows])]
    if table.losses is None:
        return [int(row) for row in rows]
    order = table.losses[rows].nan_to_num(-math.inf).argsort(descending=True, stable=True)
    return [int(row) for row in rows[order]]


def _file_of(table: "EmbeddingTable", row: int, places: Sequence[Path]) -> Path | None:
    """The file that a row is named after."""
    assert table.names is not None
    name = table.names[row]
    try:
        for path in (place / name for place in places) if places else (Path(name),):
            if path.suffix and path.is_file():
                return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    return None


def _from_files(table: "EmbeddingTable", places: Sequence[Path]) -> Reader:
    from bisector.data.images import UnreadableImageError, decode_image

    def read(row: int) -> "Image.Image | None":
        path = _file_of(table, row, places)
        try:
            return None if path is None else _picture(decode_image(str(path), 3, _SIDE).transpose(1, 2, 0))
        except UnreadableImageError:
            return None

    return read


def _from_data(table: "EmbeddingTable", data: str) -> Reader:
    """Rows by part and name of a data set that is loaded as it was embedded."""
    from bisector.data.registry import load

    settings = {key: table.settings[key] for key in _SETTINGS if table.settings.get(key) is not None}
    loaded = load(data, **settings)
    shape = loaded.shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ArgumentError(f"--images: got {data}, whose examples are {shape}; expected data of pictures")
    parts: dict[str, Part] = {key: getattr(loaded, key) for key in PARTS}
    places = {
        (key, part.examples.name(k)): (part, k)
        for key, part in parts.items()
        for k in range(len(part.labels))
    }
    names, splits = table.names or [], table.splits

    def place_of(row: int) -> "tuple[Part, int] | None":
        keys = PARTS if splits is None else (splits[row],)
        there = [places[key, names[row]] for key in keys if (key, names[row]) in places]
        return there[0] if len(there) == 1 else None

    if not any(map(place_of, range(len(table)))):
        raise ArgumentError(
            f"--images: got {data}, in which no row is found by its name; expected what was embedded"
        )

    def read(row: int) -> "Image.Image | None":
        place = place_of(row)
        if place is None:
            return None
        part, k = place
        pixels = part.examples.batch(torch.tensor([k]))[0].mul(255).round().byte().permute(1, 2, 0)
        return _picture(pixels.expand(-1, -1, 3).numpy())

    return read


def _picture(pixels: npt.NDArray[np.uint8]) -> "Image.Image":
    """Pixels (height, width, 3) as a square picture; large pixels stay what they are."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise missing_extra("pillow", "train") from None
    image = Image.fromarray(pixels)
    how = Image.Resampling.NEAREST if 2 * min(image.size) <= _SIDE else Image.Resampling.LANCZOS
    return ImageOps.fit(image, (_SIDE, _SIDE), method=how)


def _data_uri(image: "Image.Image") -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
