"""Varies training images: vectorised, and a function of (seed, epoch, position) alone."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from bisector.data.keyed import keyed_uniform
from bisector.errors import require, require_choice

AREA = (0.25, 1.0)  # of a resized crop, as a share of the image
ASPECT = (3 / 4, 4 / 3)  # width over height of a resized crop


def augment(
    images: Tensor,  # (B, channels, height, width)
    policy: str,
    seed: int,
    epoch: int,
    positions: Tensor,  # (B,)
) -> Tensor:  # (B, channels, height, width)
    """Vary each image by random numbers that belong to (seed, epoch, position).

    What becomes of an image does not depend on the others of its batch, on the worker or on the process, so that a
    training that is resumed sees the same numbers. The policies:

    - ``none``: the images as they are.
    - ``crop``: an eighth of each side is padded with zeros, and a window of the old size is cut out.
    - ``crop-flip``: the same, and every second image is mirrored: the field's standard for CIFAR (He et al. 2016).
    - ``resized-crop-flip``: a window of 0.25 to 1 of the area and an aspect of 3/4 to 4/3 is brought to the old
      size by bilinear interpolation, and every second image is mirrored (Szegedy et al. 2015). A side that would be
      longer than the image's is cut to it.

    Args:
        images: floating.
        policy: one of the above.
        seed: of the training.
        epoch: from 0.
        positions: of the images in the training part.

    Raises:
        ArgumentError: for an unknown policy, or one for images with vectors.

    >>> images = torch.rand(3, 1, 8, 8)
    >>> varied = augment(images, "crop-flip", seed=0, epoch=2, positions=torch.tensor([4, 9, 6]))
    >>> alone = augment(images[1:2], "crop-flip", seed=0, epoch=2, positions=torch.tensor([9]))
    >>> varied.shape, torch.equal(varied[1:2], alone)
    (torch.Size([3, 1, 8, 8]), True)
    """
    policy = require_choice("augmentation", policy, POLICIES)
    if policy == "none":
        return images
    legal = "(B, channels, height, width): only images are augmented"
    require(images.dim() == 4, "images", f"shape {tuple(images.shape)}", legal)
    numbers = keyed_uniform(seed, epoch, positions.cpu(), 5, "augment").to(images.device)
    return POLICIES[policy](images, numbers)


def _none(images: Tensor, numbers: Tensor) -> Tensor:
    return images


def _crop(images: Tensor, numbers: Tensor) -> Tensor:
    return _windows(images, numbers, torch.zeros(len(images), dtype=torch.bool, device=images.device))


def _crop_flip(images: Tensor, numbers: Tensor) -> Tensor:
    return _windows(images, numbers, numbers[:, 4] < 0.5)


def _windows(images: Tensor, numbers: Tensor, mirrored: Tensor) -> Tensor:
    height, width = images.shape[2:]
    down, right = round(height / 8), round(width / 8)
    padded = pad(images, (right, right, down, down))
    top = (numbers[:, 0] * (2 * down + 1)).long()
    left = (numbers[:, 1] * (2 * right + 1)).long()
    rows = top[:, None] + torch.arange(height, device=images.device)  # (B, height)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)  # (B, width)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    # Channels last while rows and columns are picked, so that a pixel is one read.
    return (
        padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def _resized_crop_flip(images: Tensor, numbers: Tensor) -> Tensor:
    height, width = images.shape[2:]
    area = AREA[0] + (AREA[1] - AREA[0]) * numbers[:, 0]
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    aspect = torch.exp(low + (high - low) * numbers[:, 1])
    # Sides as a share of the image's: a window of w x h pixels has the area w h and the aspect w / h.
    across = torch.sqrt(area * aspect * (height / width)).clamp(max=1)
    along = torch.sqrt(area / aspect * (width / height)).clamp(max=1)
    middle_x = (1 - across) * (2 * numbers[:, 2] - 1)
    middle_y = (1 - along) * (2 * numbers[:, 3] - 1)
    across = torch.where(numbers[:, 4] < 0.5, -across, across)
    # Written out, since a matrix product may round differently in a batch of another size.
    x = middle_x[:, None] + across[:, None] * _centres(width, images)  # (B, width)
    y = middle_y[:, None] + along[:, None] * _centres(height, images)  # (B, height)
    size = (len(images), height, width)
    grid = torch.stack([x[:, None, :].expand(size), y[:, :, None].expand(size)], dim=-1)
    return grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def _centres(size: int, like: Tensor) -> Tensor:  # (size,) the pixels' centres from -1 to 1
    return (2 * torch.arange(size, device=like.device) + 1) / size - 1


POLICIES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": _none,
    "crop": _crop,
    "crop-flip": _crop_flip,
    "resized-crop-flip": _resized_crop_flip,
}
"""The policies that `augment` knows: functions of the images and of (B, 5) random numbers."""
