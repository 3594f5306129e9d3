"""What annotations of COCO and VOC have in common: values however they are written, and pictures of their boxes."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from bisector.data.boxes.picture import Picture, cut_at_border

FLAGS = "0, 1, true or false"

_WORDS = {"true": True, "false": False, "": False, "none": False, "null": False, "unspecified": False}
_ROUNDING = 1.0  # pixels: so far outside is nothing to report; COCO's own boxes are by hundredths


def integer_id(value: object) -> int | None:
    """An integer of 63 bits, also one written as a float or in digits; else None.

    >>> integer_id("18"), integer_id(18.0), integer_id("a18"), integer_id(True)
    (18, 18, None, None)
    """
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19
    if digits or (isinstance(value, float) and value.is_integer()):
        value = int(value)  # type: ignore[call-overload]  # one of these it is
    whole = isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) < 2**62
    return int(value) if whole else None  # type: ignore[call-overload]


def image_id(value: object) -> int | str | None:
    """The id of an image: an integer however it is written, else any text; else None.

    >>> image_id("0012"), image_id("a12"), image_id(None)
    (12, 'a12', None)
    """
    number = integer_id(value)
    return value if number is None and isinstance(value, str) and value else number


def flag(value: object) -> bool | None:
    """Whether a flag such as `iscrowd` is set: any whole number but 0, or a word; None where it says neither.

    Numbers are read as pycocotools reads them. What is not there, or empty, is not set.

    >>> [flag(value) for value in (1, "1", 2, "True", 0.0, None, "maybe", 0.5, -1)]
    [True, True, True, True, False, False, None, None, None]
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and (word := value.strip().lower()) in _WORDS:
        return _WORDS[word]
    found = number(value)
    return found != 0 if found >= 0 and found.is_integer() else None


def number(value: object) -> float:
    """A number, which may be written as text; NaN where it is none or beyond sense.

    >>> number("2.5"), number(10**400), number([3])
    (2.5, nan, nan)
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return math.nan
    return float(value) if isinstance(value, int | float) and abs(value) < 2**31 else math.nan


class LeftOut:
    """Counts what of a file could not be used, by kind, and remembers where the first of each kind is.

    >>> faults = LeftOut("train.json")
    >>> for annotation in (17, 99):
    ...     faults.add("without area, left out", f"annotation {annotation} (a.jpg)")
    >>> faults.lines()
    ('train.json: boxes without area, left out: 2; the first: annotation 17 (a.jpg)',)
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._kinds: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, fault: str, where: str, *, count: int = 1, what: str = "boxes") -> None:
        """Note one fault, or several of which `where` names the first."""
        found, first = self._kinds.get((what, fault), (0, where))
        self._kinds[what, fault] = (found + count, first)

    def lines(self) -> tuple[str, ...]:
        """One line for each kind of fault."""
        return tuple(
            f"{self._file}: {what} {fault}: {count:,}; the first: {first}"
            for (what, fault), (count, first) in self._kinds.items()
        )


class ImageInfo(NamedTuple):
    """What is known of an image before its boxes."""

    id: int | str
    file: str
    width: int
    height: int
    negative: tuple[int, ...] = ()
    not_exhaustive: tuple[int, ...] = ()


class Annotation(NamedTuple):
    """One annotation of a file."""

    id: int
    label: int
    corners: tuple[float, float, float, float]  # x1 y1 x2 y2; NaN: the file has no box
    crowd: bool
    area: float  # NaN: the file has none
    written: tuple[float, float, float, float]  # x y width height


def pictures_of(
    infos: Sequence[ImageInfo], rows: Sequence[Sequence[Annotation]], faults: LeftOut
) -> list[Picture]:
    """Make pictures of images and the annotations of each; all boxes of a file are cut at the borders at once.

    >>> row = Annotation(1, 1, (2, 2, 12, 7), False, float("nan"), (2, 2, 10, 5))
    >>> pictures_of([ImageInfo(4, "a.jpg", 8, 8)], [[row]], LeftOut("a.json"))[0].boxes
    tensor([[2., 2., 8., 7.]])
    """
    flat = [row for some in rows for row in some]
    lengths = torch.tensor([len(some) for some in rows], dtype=torch.long)
    of_image = torch.arange(len(infos)).repeat_interleave(lengths)
    sizes = torch.tensor([(f.width, f.height) for f in infos], dtype=torch.float64).reshape(-1, 2)[of_image]
    corners = torch.tensor([row.corners for row in flat], dtype=torch.float64).reshape(-1, 4)
    cut = cut_at_border(corners, sizes)
    boxes = cut.float()
    finite = corners.isfinite().all(1)
    area = (corners[:, 2:] > corners[:, :2]).all(1)
    # Also what only rounding to 32 bits makes flat: a model's loss would not be finite.
    kept = finite & area & (boxes[:, 2:] > boxes[:, :2]).all(1)
    for wrong, fault in (
        (~finite, "that are no four finite numbers, left out"),
        (finite & ~area, "without area, left out"),
        (finite & area & ~kept, "outside their image, left out"),
        (
            kept & ((cut - corners).abs() > _ROUNDING).any(1),
            "that reach outside their image, cut at its border",
        ),
    ):
        if wrong.any():
            first = int(wrong.nonzero()[0, 0])
            where = f"annotation {flat[first].id} ({infos[int(of_image[first])].file})"
            faults.add(fault, where, count=int(wrong.sum()))
    areas = torch.tensor([row.area for row in flat], dtype=torch.float64)
    spans = (corners[:, 2:] - corners[:, :2]).prod(dim=1)
    columns: dict[str, Tensor] = {
        "boxes": boxes,
        "labels": torch.tensor([row.label for row in flat], dtype=torch.long),
        "ids": torch.tensor([row.id for row in flat], dtype=torch.long),
        "crowd": torch.tensor([row.crowd for row in flat], dtype=torch.bool),
        "areas": torch.where(
            areas.isfinite() & (areas >= 0), areas, spans
        ),  # in 64 bits: sizes have sharp limits
        "written": torch.tensor([row.written for row in flat], dtype=torch.float64).reshape(-1, 4),
    }
    counts = torch.bincount(of_image[kept], minlength=len(infos)).tolist()
    parts = zip(*(torch.split(column[kept], counts) for column in columns.values()), strict=True)
    return [
        Picture(**info._asdict(), **dict(zip(columns, own, strict=True)))
        for info, own in zip(infos, parts, strict=True)
    ]
