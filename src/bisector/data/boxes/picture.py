"""One image of a detection data set and its boxes."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisector.data.images import PixelRange, UnreadableImageError, decode_image
from bisector.errors import ArgumentError, require

_DTYPES = {
    "boxes": (torch.float32,),
    "labels": (torch.int64,),
    "ids": (torch.int64,),
    "crowd": (torch.bool,),
    "areas": (torch.float64, torch.float32),
    "written": (torch.float64,),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """One image of a detection data set and its boxes; nothing is decoded yet.

    Attributes:
        id: of the image, as in the file, an integer or a text; in Pascal VOC its position, from 1, in the lists of
            the training, the validation and the test part, one after the other.
        file: where it lies under the set's root; for messages and results.
        width: in pixels.
        height: in pixels.
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels, inside the image and of positive area.
        labels: (n,) int64, 1..C; 0 is the background.
        ids: (n,) int64, of the annotations: unlike and above 0.
        crowd: (n,) bool, COCO's `iscrowd` and VOC's `difficult`: never trained on, ignored when scored.
        areas: (n,) float64 or float32, pixels, as the file says (in COCO those of the masks), else width times
            height.
        negative: LVIS: labels of classes verified to be absent.
        not_exhaustive: LVIS: labels of classes not all of whose objects have a box.
        written: (n, 4) float64, x y width height as the file has them, not cut at the image's border, where the
            scores of others are counted against these; None: as `boxes`. Whoever changes `boxes` changes these.

    Raises:
        ArgumentError: if a column has another length or dtype.

    >>> box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    >>> Picture.of(7, "a.jpg", 64, 64, box, torch.tensor([1])).areas
    tensor([800.], dtype=torch.float64)
    """

    id: int | str
    file: str
    width: int
    height: int
    boxes: Tensor
    labels: Tensor
    ids: Tensor
    crowd: Tensor
    areas: Tensor
    negative: tuple[int, ...] = ()
    not_exhaustive: tuple[int, ...] = ()
    written: Tensor | None = None

    def __post_init__(self) -> None:
        rows = len(self.boxes)
        for name, legal in _DTYPES.items():
            column = getattr(self, name)
            if column is None and name == "written":
                continue
            shape = (rows, 4) if name in {"boxes", "written"} else (rows,)
            # The message is made for a fault alone: of pictures there are a hundred thousand.
            if column.shape != shape or column.dtype not in legal:
                got = f"shape {tuple(column.shape)}, {column.dtype} in {self.file}"
                require(False, name, got, f"shape {shape}, {legal[0]}")

    @classmethod
    def of(
        cls,
        id: int | str,
        file: str,
        width: int,
        height: int,
        boxes: Tensor,  # (n, 4)
        labels: Tensor,  # (n,)
        *,
        first_id: int = 1,
    ) -> "Picture":
        """A picture of which no more is known than its boxes: no crowd, areas from the boxes, ids in a row."""
        boxes = boxes.reshape(-1, 4).float()
        return cls(
            id=id,
            file=file,
            width=width,
            height=height,
            boxes=boxes,
            labels=labels.reshape(-1).long(),
            ids=torch.arange(first_id, first_id + len(boxes)),
            crowd=torch.zeros(len(boxes), dtype=torch.bool),
            areas=(boxes[:, 2:].double() - boxes[:, :2]).prod(dim=1),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Tensors of a picture are views into those of its file, and each would travel to a loader's worker as a
        # file descriptor of its own: a hundred thousand pictures have more than a process may open.
        values = [getattr(self, field.name) for field in fields(self)]
        return _rebuilt, tuple(v.numpy() if isinstance(v, Tensor) else v for v in values)


def _rebuilt(*values: Any) -> Picture:
    given: list[Any] = [torch.from_numpy(v) if hasattr(v, "dtype") else v for v in values]
    return Picture(*given)


def corners_of(written: Tensor) -> Tensor:  # (n, 4)
    """x1 y1 x2 y2 of boxes that are written as x y width height."""
    return torch.cat([written[:, :2], written[:, :2] + written[:, 2:]], dim=1)


def cut_at_border(corners: Tensor, sizes: Tensor) -> Tensor:  # (n, 4)
    """The part of each box that is inside its picture, of which `sizes` (n, 2) has width and height."""
    return corners.clamp(min=0).minimum(torch.cat([sizes, sizes], dim=1))


def read_pixels(
    path: Path, picture: Picture, pixel_range: PixelRange | None = None
) -> Tensor:  # (3, H, W) uint8, RGB
    """Decode an image as it is stored: COCO's and VOC's boxes are in stored pixels, whatever EXIF says of them.

    Where the annotated size is that of the image turned upright by EXIF, and not the stored one, the boxes were
    drawn on the upright image, and it is turned. `pixel_range` are the values that become 0 and 255 where a pixel
    has more than 8 bits; those that this picture needs (`data.images.range_of`) if None.

    Raises:
        ArgumentError: if the file is missing, broken or of another size than the annotation says.
    """
    where = f"image {picture.id} ({path})"
    if not path.is_file():
        raise ArgumentError(f"images: no file for {where}")
    wanted = (picture.height, picture.width)
    try:
        pixels = decode_image(str(path), channels=3, upright=False, pixel_range=pixel_range)
        if pixels.shape[1:] == wanted[::-1] != wanted:
            turned = decode_image(str(path), channels=3, pixel_range=pixel_range)
            pixels = turned if turned.shape[1:] == wanted else pixels
    except UnreadableImageError as error:
        raise ArgumentError(f"images: {where} cannot be read: {error}") from None
    if pixels.shape[1:] != wanted:
        height, width = pixels.shape[1:]
        raise ArgumentError(
            f"images: {where} is {width} x {height} pixels; its annotation says {picture.width} x {picture.height}"
        )
    return torch.from_numpy(pixels.copy())


def stored_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is stored, from its header.

    Raises:
        ArgumentError: if there is no such image.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return opened.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ArgumentError(f"images: {path} cannot be read: {error}") from None
