"""From the boxes of a whole file to pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bisector.data.boxes.corners import inside
from bisector.data.boxes.left_out import LeftOut
from bisector.data.boxes.picture import Picture


@dataclass(frozen=True)
class Frame:
    """What is known of an image before its boxes."""

    id: int | str
    file: str
    width: int
    height: int
    negative: tuple[int, ...] = ()
    not_exhaustive: tuple[int, ...] = ()


class Row(NamedTuple):  # a million of them: made faster than a dataclass
    """One annotation of a file."""

    id: int
    label: int
    corners: tuple[float, float, float, float]  # x1 y1 x2 y2; NaN: the file has no box
    crowd: bool
    area: float  # NaN: the file has none
    written: tuple[float, float, float, float]  # x y width height


def pictures_of(
    frames: Sequence[Frame],
    rows: Sequence[Sequence[Row]],
    faults: LeftOut,
) -> list[Picture]:
    """Make pictures of images and the annotations of each; the boxes of the file are looked at in one piece.

    >>> row = Row(1, 1, (2, 2, 12, 7), False, float("nan"), (2, 2, 10, 5))
    >>> pictures_of([Frame(4, "a.jpg", 8, 8)], [[row]], LeftOut("a.json"))[0].boxes
    tensor([[2., 2., 8., 7.]])
    """
    flat = [row for some in rows for row in some]
    of_image = torch.arange(len(frames)).repeat_interleave(
        torch.tensor([len(some) for some in rows], dtype=torch.long)
    )
    sizes = torch.tensor([(f.width, f.height) for f in frames], dtype=torch.float64).reshape(-1, 2)[of_image]
    corners = torch.tensor([row.corners for row in flat], dtype=torch.float64).reshape(-1, 4)

    def where(row: int) -> str:
        return f"annotation {flat[row].id} ({frames[int(of_image[row])].file})"

    boxes, kept = inside(corners, sizes, faults, where)
    areas = torch.tensor([row.area for row in flat], dtype=torch.float64)
    spans = (corners[:, 2:] - corners[:, :2]).prod(dim=1)
    columns = (
        boxes,
        torch.tensor([row.label for row in flat], dtype=torch.long),
        torch.tensor([row.id for row in flat], dtype=torch.long),
        torch.tensor([row.crowd for row in flat], dtype=torch.bool),
        torch.where(areas.isfinite() & (areas >= 0), areas, spans),  # in 64 bits: sizes have sharp limits
        torch.tensor([row.written for row in flat], dtype=torch.float64).reshape(-1, 4),
    )
    counts = torch.bincount(of_image[kept], minlength=len(frames)).tolist()
    parts: list[Sequence[Tensor]] = [torch.split(column[kept], counts) for column in columns]
    return [
        Picture(
            id=frame.id,
            file=frame.file,
            width=frame.width,
            height=frame.height,
            boxes=own[0],
            labels=own[1],
            ids=own[2],
            crowd=own[3],
            areas=own[4],
            negative=frame.negative,
            not_exhaustive=frame.not_exhaustive,
            written=own[5],
        )
        for frame, *own in zip(frames, *parts, strict=True)
    ]
