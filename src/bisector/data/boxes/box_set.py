"""The pictures of one part of a detection data set, and the parts together."""

import copy
import hashlib
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from bisector.data.boxes.picture import Picture, corners_of, cut_at_border, read_pixels
from bisector.data.images import PixelRange
from bisector.errors import ArgumentError, require, require_choice

Style = Literal["coco", "lvis", "voc"]
STYLES: tuple[Style, ...] = ("coco", "lvis", "voc")
RARE, COMMON = 10, 100  # images at most; LVIS v1


class BoxSet:
    """The pictures of one part of a detection data set: `len(boxes)`, `boxes[i]`, `boxes.image(i)`.

    A subclass that has its pixels from elsewhere overrides `image` and `fingerprint`. It must find them by what is
    in `self.pictures[index]`: a subset has other positions.

    Args:
        pictures: in a fixed order, each id once.
        class_names: of label 1, 2, ... C.
        name: of the set, for people.
        style: whose rules the pictures are scored by; "lvis": only classes in a picture or among its negatives.
        category_ids: (C,) as in the file; None: 1..C.
        frequency: (C,) of "r", "c", "f" (rare, common, frequent), where the file says.
        left_out: lines for people: what could not be used.
        root: the folder that the pictures' files are in; None: there are no images.
        pixel_range: the values of pixels of more than 8 bits that become 0 and 255; None: of each picture by
            itself (`data.images.range_of`).

    Raises:
        ArgumentError: if a label is not of a class, a box is without area, not inside its picture or not that
            which `written` says, or two pictures have one id.

    >>> picture = Picture.of(7, "a.jpg", 64, 64, torch.tensor([[10.0, 20, 30, 60]]), torch.tensor([2]))
    >>> boxes = BoxSet([picture], ["cat", "dog"], name="pets")
    >>> len(boxes), boxes.counts, boxes.coco()["annotations"][0]["bbox"]
    (1, tensor([0, 1]), [10.0, 20.0, 20.0, 40.0])
    """

    composed: bool = False
    """Whether the pictures were put together by a program; nobody took them."""

    counts: Tensor  # (C,) int64
    """How many boxes of each class are trained on: those that are no crowd."""

    image_counts: Tensor  # (C,) int64
    """In how many pictures each class has a box that is trained on."""

    def __init__(
        self,
        pictures: Iterable[Picture],
        class_names: Sequence[str],
        *,
        name: str,
        style: Style = "coco",
        category_ids: Sequence[int] | None = None,
        frequency: Sequence[str] | None = None,
        left_out: Sequence[str] = (),
        root: str | Path | None = None,
        pixel_range: PixelRange | None = None,
    ) -> None:
        self.name = name
        self.style = require_choice("style", style, STYLES)
        self.class_names = tuple(class_names)
        classes = len(self.class_names)
        require(classes > 0, "class_names", "none", "at least 1 class")
        self.category_ids = tuple(range(1, classes + 1)) if category_ids is None else tuple(category_ids)
        unlike = len(set(self.category_ids))
        fine = len(self.category_ids) == unlike == classes
        require(fine, "category_ids", f"{unlike} ids", f"{classes}, one a class")
        self.frequency = self._frequency(frequency)
        self.left_out = tuple(left_out)
        self.root = None if root is None else str(root)
        self.pixel_range = pixel_range
        self._set_pictures(tuple(pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        return self.pictures[index]

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {len(self):,} pictures, {int(self.counts.sum()):,} boxes, "
            f"{len(self.class_names):,} classes)"
        )

    def image(self, index: int) -> Tensor:  # (3, H, W) uint8, RGB
        """Decode a picture.

        Raises:
            ArgumentError: if the file is missing, broken or of another size than its annotation says.
        """
        picture = self.pictures[index]
        if self.root is None:
            raise ArgumentError(f"images: got none for {self.name}; expected the folder of {picture.file}")
        return read_pixels(Path(self.root) / picture.file, picture, self.pixel_range)

    def files(self) -> list[Hashable]:
        """A key for each picture's file: the same for two pictures of one file, however it is named."""
        found: list[Hashable] = []
        for picture in self.pictures:
            path = os.path.join(self.root or "", picture.file)  # noqa: PTH118 - a hundred thousand of them
            try:
                state = os.stat(path) if self.root is not None else None  # noqa: PTH116
            except (OSError, ValueError):
                state = None
            found.append((state.st_dev, state.st_ino) if state and state.st_ino else os.path.normpath(path))
        return found

    def subset(self, indices: Iterable[int] | Tensor, *, left_out: Sequence[str] | None = None) -> Self:
        """The same set with some of its pictures, in the order given; ids stay as they are."""
        chosen = indices.tolist() if isinstance(indices, Tensor) else indices
        other = copy.copy(self)
        other._set_pictures(tuple(self.pictures[i] for i in chosen))
        if left_out is not None:
            other.left_out = tuple(left_out)
        return other

    def with_frequency(self, frequency: Sequence[str] | None) -> Self:
        """The same set with other groups of rare, common and frequent classes.

        Raises:
            ArgumentError: if there is not one of "r", "c", "f" for each class.
        """
        other = copy.copy(self)
        other.frequency = self._frequency(frequency)
        return other

    def coco(self) -> dict[str, Any]:
        """The ground truth in the form of COCO's json (of LVIS's, for its style), to be scored against.

        A box is x, y, width, height, as the file has it: not cut at the border, so that scores are those that
        others count. Boxes that could not be read are not in it (see `left_out`).
        """
        ids = self.category_ids
        categories: list[dict[str, Any]] = [
            {"id": i, "name": name} for i, name in zip(ids, self.class_names, strict=True)
        ]
        for category, frequency in zip(categories, self.frequency or (), strict=False):
            category["frequency"] = frequency
        images, annotations = [], []
        for picture in self.pictures:
            image: dict[str, Any] = {"id": picture.id, "file_name": picture.file}
            image |= {"width": picture.width, "height": picture.height}
            if self.style == "lvis":
                image["neg_category_ids"] = [ids[label - 1] for label in picture.negative]
                image["not_exhaustive_category_ids"] = [ids[label - 1] for label in picture.not_exhaustive]
            images.append(image)
            boxes, written = picture.boxes, picture.written
            if written is None:
                written = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
            columns = (picture.ids, picture.labels, written, picture.areas, picture.crowd.int())
            for i, label, box, area, crowd in zip(*(values.tolist() for values in columns), strict=True):
                annotation = {"id": i, "image_id": picture.id, "category_id": ids[label - 1]}
                annotations.append(annotation | {"bbox": box, "area": area, "iscrowd": crowd})
        return {"images": images, "annotations": annotations, "categories": categories}

    def fingerprint(self) -> str:
        """A digest of pictures, boxes and files (their sizes and times; none is read)."""
        of_set = (self.style, self.class_names, self.category_ids, self.frequency)
        digest = hashlib.sha256(repr(of_set).encode())
        for one in self.pictures:
            words = (one.id, one.file, one.width, one.height, one.negative, one.not_exhaustive)
            digest.update(repr(words).encode())
            for values in (one.boxes, one.labels, one.ids, one.crowd, one.areas, one.written):
                digest.update(b"none" if values is None else values.numpy().tobytes())
            if self.root is not None and (path := Path(self.root) / one.file).exists():
                state = path.stat()
                digest.update(f"{state.st_size} {state.st_mtime_ns}".encode())
        return digest.hexdigest()[:16]

    def _frequency(self, letters: Sequence[str] | None) -> tuple[str, ...] | None:
        if letters is None:
            return None
        classes = len(self.class_names)
        fine = len(letters) == classes and set(letters) <= {"r", "c", "f"}
        require(fine, "frequency", tuple(letters[:9]), f"{classes} of 'r', 'c', 'f'")
        return tuple(letters)

    def _set_pictures(self, pictures: tuple[Picture, ...]) -> None:
        """Take these pictures, having checked and counted them all at once."""
        self.pictures = pictures
        unlike = len({picture.id for picture in pictures}) == len(pictures)
        require(unlike, "pictures", "an id twice", "each with its own id")
        classes = len(self.class_names)
        self.counts, self.image_counts = torch.zeros(2, classes, dtype=torch.long).unbind()
        if pictures:
            of_picture, labels = _checked(pictures, classes)
            self.counts = torch.bincount(labels - 1, minlength=classes)
            pairs = torch.unique(of_picture * classes + labels - 1)
            self.image_counts = torch.bincount(pairs % classes, minlength=classes)


def _checked(pictures: Sequence[Picture], classes: int) -> tuple[Tensor, Tensor]:
    """Look at the boxes of all pictures; return the picture (m,) and the label (m,) of those that are no crowd."""
    counts = torch.tensor([len(picture.labels) for picture in pictures])
    of_picture = torch.arange(len(pictures)).repeat_interleave(counts)
    labels = torch.cat([picture.labels for picture in pictures])
    boxes = torch.cat([picture.boxes for picture in pictures])
    sizes = torch.tensor([(picture.width, picture.height) for picture in pictures])[of_picture]

    def check(wrong: Tensor, argument: str, values: Tensor, expected: str) -> None:
        if wrong.any():
            first = int(wrong.nonzero()[0, 0])
            where = pictures[int(of_picture[first])].file
            raise ArgumentError(f"{argument}: got {values[first].tolist()} in {where}; expected {expected}")

    check((labels < 1) | (labels > classes), "labels", labels, f"1 to {classes}")
    inside = (boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= sizes)
    check(~inside.all(1), "boxes", boxes, "x1 < x2 and y1 < y2 inside the picture")
    written = [picture.written for picture in pictures if picture.written is not None]
    if written:
        given = torch.tensor([picture.written is not None for picture in pictures])[of_picture]
        cut = cut_at_border(corners_of(torch.cat(written)), sizes[given])
        changed = torch.zeros(len(boxes), dtype=torch.bool)
        # A file may have corners, of which `written` is the difference: the last bits are not the same.
        changed[given] = ~torch.isclose(cut, boxes[given].double(), rtol=1e-6, atol=1e-3).all(1)
        legal = "the box that its `written` says, cut at the border: change both, or have written=None"
        check(changed, "boxes", boxes, legal)
    alone = ~torch.cat([picture.crowd for picture in pictures])
    return of_picture[alone], labels[alone]


@dataclass(frozen=True)
class BoxSplits:
    """Training, validation and test pictures, of the same classes; `test` is None where the data have none."""

    train: BoxSet
    validation: BoxSet
    test: BoxSet | None = None

    @property
    def parts(self) -> tuple[BoxSet, ...]:
        """Those that there are."""
        return (self.train, self.validation, *([] if self.test is None else [self.test]))

    @property
    def truth(self) -> BoxSet:
        """The part by which a training is scored: test, or validation where there is no other."""
        return self.validation if self.test is None else self.test

    def fingerprint(self) -> str:
        """A digest of the pictures, boxes and files of all parts."""
        return hashlib.sha256("".join(part.fingerprint() for part in self.parts).encode()).hexdigest()[:16]


def frequency_groups(image_counts: Tensor) -> tuple[str, ...]:  # (C,)
    """LVIS's group of each class: "r" up to 10 training images, "c" up to 100, "f" above (Gupta et al. 2019).

    Args:
        image_counts: (C,) in how many training images each class is; one of none is called rare.

    >>> frequency_groups(torch.tensor([0, 10, 11, 100, 101]))
    ('r', 'r', 'c', 'c', 'f')
    """
    return tuple("r" if n <= RARE else "c" if n <= COMMON else "f" for n in image_counts.tolist())
