"""What a detector found in one image, and whether it fits the data it is scored against."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.data.boxes import BoxSet
from bisector.data.boxes.picture import corners_of
from bisector.errors import require


@dataclass(frozen=True, eq=False)
class Detections:
    """The n boxes that were found in one image, in any order.

    Args:
        image: `Picture.id` of the image.
        boxes: (n, 4) corners x1 y1 x2 y2 in pixels of the original image, x2 >= x1 and y2 >= y1.
        labels: (n,) classes from 1; 0 is the background and never found.
        scores: (n,) finite, the surest highest.
        class_scores: (n, C) where the scores of all classes were kept, column 0 being class 1.
        written: (n, 4) float64, x y width height as a results file has them, by which they are scored then: an
            overlap may be a threshold to the last bit. None: as `boxes`. Whoever changes `boxes` changes these.

    Raises:
        ArgumentError: if a shape or a dtype does not fit, a number is not finite, or `written` are other boxes.

    >>> Detections(7, torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([1]), torch.tensor([float("nan")]))
    Traceback (most recent call last):
    bisector.errors.ArgumentError: scores: got nan for detection 0 of image 7; expected finite numbers
    """

    image: int | str
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    class_scores: Tensor | None = None
    written: Tensor | None = None

    def __post_init__(self) -> None:
        rows = len(self.boxes)
        fits = self.boxes.shape == (rows, 4)
        require(fits, "boxes", f"shape {tuple(self.boxes.shape)} in image {self.image}", "shape (n, 4)")
        for name, values in (("labels", self.labels), ("scores", self.scores)):
            fits = values.shape == (rows,)
            require(fits, name, f"shape {tuple(values.shape)} in image {self.image}", f"shape ({rows},)")
        integer = not (self.labels.is_floating_point() or self.labels.dtype == torch.bool)
        require(integer, "labels", f"{self.labels.dtype} in image {self.image}", "an integer dtype")
        for name, numbers in (("boxes", self.boxes), ("scores", self.scores)):
            self._require(name, numbers, numbers.isfinite(), "finite numbers")
        ordered = (self.boxes[:, 2:] >= self.boxes[:, :2]).all(dim=1)
        self._require("boxes", self.boxes, ordered, "corners x1 y1 x2 y2 with x2 >= x1 and y2 >= y1")
        if self.class_scores is not None:
            shape = tuple(self.class_scores.shape)
            fits = self.class_scores.ndim == 2 and len(self.class_scores) == rows
            require(fits, "class_scores", f"shape {shape} in image {self.image}", f"shape ({rows}, C)")
            self._require("class_scores", self.class_scores, self.class_scores.isfinite(), "finite numbers")
        if self.written is not None:
            fits = self.written.shape == (rows, 4) and self.written.dtype == torch.float64
            got = f"shape {tuple(self.written.shape)}, {self.written.dtype} in image {self.image}"
            require(fits, "written", got, f"shape ({rows}, 4), torch.float64")
            same = (corners_of(self.written).to(self.boxes.dtype) == self.boxes).all(dim=1)
            self._require("boxes", self.boxes, same, "the box that `written` says: change both, or have None")

    def __len__(self) -> int:
        return len(self.boxes)

    def as_written(self) -> Tensor:  # (n, 4) float64
        """Return x y width height: what the file says, else what gives the corners again to the last bit."""
        if self.written is not None:
            return self.written
        corners = self.boxes.double()
        return torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)

    def _require(self, name: str, values: Tensor, legal: Tensor, expected: str) -> None:
        """Raise at the first detection that is not legal."""
        if not bool(legal.all()):
            legal = legal if legal.ndim == 1 else legal.all(dim=1)
            row = int((~legal).nonzero()[0])
            require(
                False, name, f"{values[row].tolist()} for detection {row} of image {self.image}", expected
            )


def require_detections(truth: BoxSet, detections: Sequence[Detections]) -> None:
    """Raise `ArgumentError` unless every image is one of `truth` and there once, and every label a class."""
    known = {picture.id for picture in truth.pictures}
    classes = len(truth.class_names)
    seen: set[int | str] = set()
    for one in detections:
        require(one.image in known, "detections", f"image {one.image}", f"an image of {truth.name}")
        require(one.image not in seen, "detections", f"image {one.image} twice", "each image once")
        seen.add(one.image)
        labels = one.labels.long()  # a byte cannot be compared with 1,203
        wrong = (labels < 1) | (labels > classes)
        if bool(wrong.any()):
            label = int(labels[wrong][0])
            require(False, "detections", f"label {label} in image {one.image}", f"labels from 1 to {classes}")
        width = classes if one.class_scores is None else one.class_scores.shape[1]
        require(
            width == classes,
            "detections",
            f"{width} scores a box in image {one.image}",
            f"one for each of the {classes} classes",
        )


def best(one: Detections, most: int) -> Detections:
    """The detections with the highest scores, at most so many; of equal ones the first."""
    if len(one) <= most:
        return one
    kept = one.scores.sort(descending=True, stable=True).indices[:most]
    vectors = None if one.class_scores is None else one.class_scores[kept]
    written = None if one.written is None else one.written[kept]
    return Detections(one.image, one.boxes[kept], one.labels[kept], one.scores[kept], vectors, written)
