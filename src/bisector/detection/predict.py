"""Detections of a whole set of pictures, and embeddings of its boxes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from bisector.data.boxes import BoxSet
from bisector.detection.batches import PlainBoxBatches, pixels
from bisector.detection.evaluation import Detections
from bisector.detection.modes import evaluating
from bisector.information.distributed import several_processes

Item = TypeVar("Item")


def detections_of(outputs: Sequence[Mapping[str, Tensor]], images: Sequence[int | str]) -> list[Detections]:
    """Return what torchvision's detector said of some pictures, on the CPU.

    Args:
        outputs: a dict of "boxes", "labels" and "scores" for each.
        images: their ids.
    """
    return [
        Detections(
            image,
            output["boxes"].detach().float().cpu(),
            output["labels"].detach().cpu(),
            output["scores"].detach().float().cpu(),
        )
        for output, image in zip(outputs, images, strict=True)
    ]


def gathered(mine: list[Item]) -> list[Item]:
    """Return what all processes found, in the order of the processes; of one alone what it has."""
    if not several_processes():
        return mine
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, mine)
    return [item for part in found for item in part]


def in_order(found: list[Detections], truth: BoxSet) -> list[Detections]:
    """Return detections in the order of the pictures, whichever process made them."""
    of = {one.image: one for one in found}
    return [of[picture.id] for picture in truth.pictures]


def share_buffers(network: nn.Module) -> None:
    """Give every process the buffers of the first: the statistics of batch norms are each process's own.

    DDP does so before every forward, and so not after the last step. The first process writes the checkpoints.
    """
    if several_processes():
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)


def detect(
    network: nn.Module,
    boxes: BoxSet,
    *,
    batch_size: int = 4,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int], None] = lambda pictures: None,
) -> list[Detections]:
    """Return the detections of every picture of a set; of this process's share where there are several.

    Args:
        network: a detector of torchvision; it runs where its weights are, and stays in the mode that it has.
        boxes: the pictures.
        batch_size: pictures at once.
        workers: processes that read pictures.
        rank: of this process.
        world_size: of how many.
        progress: is given the number of pictures after each batch.

    Raises:
        ArgumentError: a file is missing or broken.
    """
    found: list[Detections] = []
    batches = PlainBoxBatches(boxes, batch_size, workers=workers, rank=rank, world_size=world_size)
    device = next(network.parameters()).device
    with evaluating(network):
        for images, targets, _ in batches:
            if not images:
                continue
            outputs = network(pixels([image.to(device) for image in images]))
            found += detections_of(outputs, [target["image_id"] for target in targets])
            progress(len(images))
    return found


def embed_truth(
    network: Any, boxes: BoxSet, *, batch_size: int = 4, workers: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Embed the boxes of the ground truth as regions of interest, batch by batch.

    This is how amounts are correlated with AP: what the classifier sees of an object that was found exactly. Crowd
    boxes are left out.

    Args:
        network: an attached detector; it runs where its weights are.
        boxes: the pictures and their boxes.
        batch_size: pictures at once.
        workers: processes that read pictures.
        rank: of this process, which embeds its share.
        world_size: of how many.

    Yields:
        The (n, D) embeddings, the (n,) labels from 1, and n names: file and annotation id.

    Raises:
        ArgumentError: a file is missing or broken.
    """
    device = next(network.parameters()).device
    batches = PlainBoxBatches(boxes, batch_size, workers=workers, rank=rank, world_size=world_size)
    for positions, batch in zip(batches.positions, batches, strict=True):
        if not len(positions):
            continue
        with evaluating(network):
            targets = [
                {"boxes": t["boxes"].to(device), "labels": t["labels"].to(device)} for t in batch.targets
            ]
            images, targets = network.transform(pixels([image.to(device) for image in batch.images]), targets)
            features = network.backbone(images.tensors)
            if isinstance(features, Tensor):
                features = {"0": features}
            found = network.roi_heads.embed_boxes(features, [t["boxes"] for t in targets], images.image_sizes)
        labels = torch.cat([target["labels"] for target in targets])
        names = [
            f"{boxes[index].file}#{annotation}"
            for index in positions.tolist()
            for annotation in boxes[index].ids[~boxes[index].crowd].tolist()
        ]
        yield found, labels, names
