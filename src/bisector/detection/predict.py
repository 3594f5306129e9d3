"""What a detector finds in a set of pictures, and what it makes of the true boxes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy

from bisector.data.boxes import BoxSet, BoxSplits
from bisector.data.tables.writer import EmbeddingWriter
from bisector.detection.data import PlainBoxBatches, pixels
from bisector.detection.evaluation import BoxAccuracy, Detections
from bisector.detection.evaluation.evaluate import classify_predicted
from bisector.detection.roi_heads import evaluating
from bisector.errors import require
from bisector.information.distributed import several_processes
from bisector.posthoc.detections import adjust_logits

Item = TypeVar("Item")


def detections_of(outputs: Sequence[Mapping[str, Tensor]], images: Sequence[int | str]) -> list[Detections]:
    """Return what torchvision's detector said of some pictures with these ids, on the CPU."""
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

    The network, a detector of torchvision, runs where its weights are and stays in the mode that it has. `progress`
    is given the number of pictures after each batch.

    Raises:
        ArgumentError: a file is missing or broken.
    """
    found: list[Detections] = []
    batches = PlainBoxBatches(boxes, batch_size, workers=workers, rank=rank, world_size=world_size)
    device = next(network.parameters()).device
    with evaluating(network):
        for images, targets, _ in batches:
            if images:
                outputs = network(pixels([image.to(device) for image in images]))
                found += detections_of(outputs, [target["image_id"] for target in targets])
                progress(len(images))
    return found


def embed_targets(
    network: Any, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]
) -> tuple[Tensor, Tensor]:
    """Return the (n, D) embeddings and (n,) labels of true boxes: what the classifier sees of exact boxes.

    Images and targets are those that torchvision's detectors train on; labels count from 1.
    """
    device = next(network.parameters()).device
    own = [{name: target[name].to(device) for name in ("boxes", "labels")} for target in targets]
    with evaluating(network):
        batch, own = network.transform([image.to(device) for image in images], own)
        features = network.backbone(batch.tensors)
        if isinstance(features, Tensor):
            features = {"0": features}
        boxes = [target["boxes"] for target in own]
        found = network.roi_heads.embed_boxes(features, boxes, batch.image_sizes)
    return found, torch.cat([target["labels"] for target in own])


def embed_truth(
    network: Any, boxes: BoxSet, *, batch_size: int = 4, workers: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Embed the boxes of the ground truth as regions of interest, batch by batch.

    This is how amounts are correlated with AP: what the classifier sees of an object that was found exactly. Crowd
    boxes are left out. Of several processes each embeds its share. Arguments are those of `detect`.

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
        images = pixels([image.to(device) for image in batch.images])
        embeddings, labels = embed_targets(network, images, batch.targets)
        names = [
            f"{boxes[index].file}#{annotation}"
            for index in positions.tolist()
            for annotation in boxes[index].ids[~boxes[index].crowd].tolist()
        ]
        yield embeddings, labels, names


def class_logits(network: Any, embeddings: Tensor) -> Tensor:  # (n, D) -> (n, C)
    """Return the logits of the classes without the background, as far as they tell classes apart."""
    head = network.roi_heads.head
    logits: Tensor = head.logits(embeddings)
    return logits if head.background is None else logits[:, 1:]  # it has none beside an objectness


def classify_truth(
    network: Any, boxes: BoxSet, frequency: tuple[str, ...] | None = None, **how: Any
) -> BoxAccuracy | None:
    """Return how well a detector classifies the ground-truth boxes; None where there is one class alone.

    It decides as at inference: with the adjustment of its predictor, where there is one. A detector that finds
    little has an AP near 0 for every class; given the boxes, its classes can be compared. Of several processes each
    looks at its share, and all return what all found. `how` goes to `embed_truth`.
    """
    if len(boxes.class_names) == 1:
        return None
    found = [(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))]
    adjustment = network.roi_heads.box_predictor.adjustment
    with torch.no_grad():
        for embeddings, labels, _ in embed_truth(network, boxes, **how):
            logits = class_logits(network, embeddings)
            if adjustment is not None:
                logits = adjust_logits(logits.float(), adjustment, embeddings=embeddings)
            found.append((logits.argmax(dim=1).cpu() + 1, labels.cpu()))
    predictions, labels = (torch.cat(column) for column in zip(*gathered(found), strict=True))
    return classify_predicted(predictions, labels, len(boxes.class_names), frequency)


def write_box_embeddings(
    network: Any,
    splits: BoxSplits,
    path: Path,
    *,
    parts: tuple[str, ...] = ("train", "validation", "test"),
    model: str = "",
    data: str = "",
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 4,
    progress: Callable[[int], None] = lambda pictures: None,
) -> int:
    """Write embeddings, labels, predictions, losses and scores of all boxes that are no crowd, as Parquet.

    A prediction is the best class of the head's logits among the classes: whether a box is background is not asked.
    `model`, `data` and `settings` are kept in the file; `progress` gets the number of pictures after each batch.

    Returns:
        The number of rows.

    Raises:
        ArgumentError: there is no box, or a picture can't be read.
        OSError: the file cannot be written.
    """
    chosen = {name: part for name in parts if (part := getattr(splits, name)) is not None}
    rows = sum(int(part.counts.sum()) for part in chosen.values())
    require(rows > 0, "data", f"no box in {', '.join(chosen) or 'no part'}", "at least one")
    left_out = dict.fromkeys(line for part in chosen.values() for line in part.left_out)
    names = splits.train.class_names
    writer = EmbeddingWriter(
        path, class_names=names, model=model, data=data, left_out=tuple(left_out), settings=settings
    )
    with writer, torch.no_grad():
        for part, boxes in chosen.items():
            left = len(boxes)
            for embeddings, labels, own in embed_truth(network, boxes, batch_size=batch_size):
                if len(labels):
                    scores, classes = class_logits(network, embeddings).float(), labels - 1
                    writer.write(
                        embeddings,
                        classes,
                        predictions=scores.argmax(dim=1),
                        losses=cross_entropy(scores, classes, reduction="none"),
                        scores=scores,
                        names=own,
                        splits=[part] * len(labels),
                    )
                progress(min(batch_size, left))
                left -= batch_size
    return rows
