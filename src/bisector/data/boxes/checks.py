"""Sees that the pictures of a set are what a set may hold, all boxes at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bisector.data.boxes.corners import corners_of, cut_at_border
from bisector.data.boxes.picture import Picture
from bisector.errors import ArgumentError, require


def checked_columns(pictures: Sequence[Picture], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Join the boxes of pictures, having looked at them.

    Args:
        pictures: of one set.
        classes: of it.

    Returns:
        (M,) each: the position of the picture of a box, its label, and whether it is a crowd.

    Raises:
        ArgumentError: if a label is not of a class, a box is without area, not inside its picture or not that
            which `written` says, or two pictures have one id.

    >>> picture = Picture.of(7, "a.jpg", 64, 64, torch.tensor([[10.0, 20, 30, 60]]), torch.tensor([2]))
    >>> checked_columns([picture], classes=2)
    (tensor([0]), tensor([2]), tensor([False]))
    """
    unlike = len({picture.id for picture in pictures}) == len(pictures)
    require(unlike, "pictures", "an id twice", "each with its own id")
    if not pictures:
        return torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0).bool()
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
    legal = "the box that its `written` says, cut at the border: change both, or have written=None"
    check(_unlike_written(pictures, of_picture, boxes, sizes), "boxes", boxes, legal)
    return of_picture, labels, torch.cat([picture.crowd for picture in pictures])


def _unlike_written(
    pictures: Sequence[Picture], of_picture: Tensor, boxes: Tensor, sizes: Tensor
) -> Tensor:  # (M,) bool
    """Which boxes were changed without what they are scored by."""
    unlike = torch.zeros(len(boxes), dtype=torch.bool)
    written = [picture.written for picture in pictures if picture.written is not None]
    if written:
        told = torch.tensor([picture.written is not None for picture in pictures])[of_picture]
        cut = cut_at_border(corners_of(torch.cat(written)), sizes[told])
        # A file may have corners, of which `written` is the difference: the last bits are not the same.
        unlike[told] = ~torch.isclose(cut, boxes[told].double(), rtol=1e-6, atol=1e-3).all(1)
    return unlike
