"""What may be a box: the corners that a file tells, brought inside the picture."""

from collections.abc import Callable

import torch
from torch import Tensor

from bisector.data.boxes.left_out import LeftOut

_ROUNDING = 1.0  # pixels: so far outside is nothing to tell; COCO's own boxes are by hundredths


def inside(
    corners: Tensor,  # (M, 4) float64, x1 y1 x2 y2
    sizes: Tensor,  # (M, 2) float64, width and height of each box's picture
    faults: LeftOut,
    where: Callable[[int], str],
) -> tuple[Tensor, Tensor]:
    """Cut boxes at their picture's border and find those of which nothing is left.

    Args:
        corners: NaN where the file has no box.
        sizes: in pixels.
        faults: is told what is left out and what is cut by more than a pixel.
        where: names a row for people.

    Returns:
        Boxes (M, 4) float32 and (M,) bool, which of them have a positive area.

    >>> corners = torch.tensor([[-5.0, 0, 5, 5], [3, 3, 3, 9]]).double()
    >>> boxes, kept = inside(corners, torch.full((2, 2), 8.0).double(), LeftOut("a.json"), str)
    >>> boxes[kept], kept
    (tensor([[0., 0., 5., 5.]]), tensor([ True, False]))
    """
    finite = corners.isfinite().all(1)
    area = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    cut = cut_at_border(corners, sizes)
    boxes = cut.float()
    # Also what only rounding to 32 bits makes flat: a model's loss would not be finite.
    kept = finite & area & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    outside = finite & area & ~kept
    far = kept & ((cut - corners).abs() > _ROUNDING).any(1)
    for rows, fault in (
        (~finite, "that are no four finite numbers, left out"),
        (finite & ~area, "without area, left out"),
        (outside, "outside their image, left out"),
        (far, "that reach outside their image, cut at its border"),
    ):
        if count := int(rows.sum()):
            faults.add(fault, where(int(rows.nonzero()[0, 0])), count=count)
    return boxes, kept


def corners_of(written: Tensor) -> Tensor:  # (M, 4)
    """x1 y1 x2 y2 of boxes that are written as x y width height."""
    return torch.cat([written[:, :2], written[:, :2] + written[:, 2:]], dim=1)


def cut_at_border(corners: Tensor, sizes: Tensor) -> Tensor:  # (M, 4)
    """The part of each box that is inside its picture, of which `sizes` (M, 2) has width and height."""
    return corners.clamp(min=0).minimum(torch.cat([sizes, sizes], dim=1))
