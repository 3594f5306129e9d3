"""A detector's embeddings of the ground-truth boxes as a table, as `bisector embed` writes one of images."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.boxes import BoxSet, BoxSplits
from bisector.data.tables.writer import EmbeddingWriter
from bisector.detection.evaluation import BoxAccuracy
from bisector.detection.evaluation.boxes_classified import classify_predicted
from bisector.detection.predict import embed_truth, gathered
from bisector.errors import require


def class_logits(network: Any, embeddings: Tensor) -> Tensor:  # (n, D) -> (n, C)
    """Return the logits of the classes without the background, as far as they tell classes apart."""
    head = network.roi_heads.head
    logits: Tensor = head.logits(embeddings)
    return logits if head.background is None else logits[:, 1:]  # it has none beside an objectness


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

    Args:
        network: an attached detector.
        splits: its data.
        path: of the file.
        parts: which of them.
        model: for the record.
        data: for the record.
        settings: for the record.
        batch_size: pictures at once.
        progress: is given the number of pictures after each batch.

    Returns:
        The number of rows.

    Raises:
        ArgumentError: there is no box, or a picture can't be read.
        OSError: the file cannot be written.
    """
    chosen = [(name, part) for name in parts if (part := getattr(splits, name)) is not None]
    rows = sum(int(part.counts.sum()) for _, part in chosen)
    require(
        rows > 0, "data", f"no box in {', '.join(name for name, _ in chosen) or 'no part'}", "at least one"
    )
    left_out = dict.fromkeys(line for _, part in chosen for line in part.left_out)
    names = splits.train.class_names
    writer = EmbeddingWriter(
        path, class_names=names, model=model, data=data, left_out=tuple(left_out), settings=settings
    )
    with writer, torch.no_grad():
        for part, boxes in chosen:
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


def classify_truth(
    network: Any,
    boxes: BoxSet,
    frequency: tuple[str, ...] | None = None,
    *,
    batch_size: int = 4,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> BoxAccuracy | None:
    """Say how well a detector tells the classes of the ground-truth boxes apart; None where there is one alone.

    A detector that finds little has an AP near 0 for every class; given the boxes, its classes can be compared. Of
    several processes each looks at its share, and all return what all found.

    Args:
        network: an attached detector.
        boxes: the pictures.
        frequency: "rare", "common" or "frequent" for each class.
        batch_size: pictures at once.
        workers: processes that read pictures.
        rank: of this process.
        world_size: of how many.
    """
    if len(boxes.class_names) == 1:
        return None
    nothing = torch.zeros(0, dtype=torch.long)
    best, right = [nothing], [nothing]
    with torch.no_grad():
        for embeddings, labels, _ in embed_truth(
            network, boxes, batch_size=batch_size, workers=workers, rank=rank, world_size=world_size
        ):
            best.append(class_logits(network, embeddings).argmax(dim=1).cpu() + 1)
            right.append(labels.cpu())
    found = gathered([(torch.cat(best), torch.cat(right))])
    predictions, labels = (torch.cat(column) for column in zip(*found, strict=True))
    return classify_predicted(predictions, labels, len(boxes.class_names), frequency)
