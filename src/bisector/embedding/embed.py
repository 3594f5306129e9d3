"""Embed a data set, batch by batch, into a Parquet file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.dataset import Dataset, Part
from bisector.data.tables.writer import EmbeddingWriter
from bisector.embedding.classes import score_columns
from bisector.embedding.source import Source
from bisector.embedding.trained import TrainedSource
from bisector.errors import require, require_choice, require_integer

PARTS = ("train", "validation", "test")


def embed(
    source: Source,
    data: Dataset,
    path: Path,
    *,
    part: str = "all",
    batch_size: int = 256,
    settings: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write embeddings, labels and, where the model has scores, predictions and losses of a data set as Parquet.

    Examples are embedded as they are, without augmentation, in batches: memory does not grow with the data. The
    file is whole or not there. Losses are the cross-entropy of the scores without a margin. The classes of the
    model are matched to the data's by name. With the open-set split, the classes of the test part follow those of
    training, and there are no predictions.

    Args:
        source: the model.
        data: what is embedded.
        path: of the file.
        part: `"all"`, `"train"`, `"validation"` or `"test"`.
        batch_size: examples at once.
        settings: options of the data and the model that the file shall record, by name with underscores.
        tell: is given a line about everything that the user should know.
        progress: is given the number of examples after each batch.

    Returns:
        The number of rows.

    Raises:
        ArgumentError: if an argument is not as described, a class is unknown to a model of ours, the part is empty,
            or a vector is not finite.
        OSError: if the file cannot be written.
    """
    require_integer("batch_size", batch_size, least=1)
    require_choice("part", part, ("all", *PARTS))
    names = data.class_names + (data.test_names or ())
    parts = [(key, _part(data, key)) for key in PARTS if part in {"all", key}]
    rows = sum(len(examples) for _, examples in parts)
    require(rows > 0, "data", f"no example in {part}", "at least one")
    columns: Tensor | None = None
    decided = False
    writer = EmbeddingWriter(
        path,
        class_names=names,
        model=source.name,
        data=data.name,
        left_out=data.left_out,
        settings=settings,
        head=_head(source),
    )
    for line in (*source.notes, *data.notes):
        tell(line)
    for line in data.left_out:
        tell(f"left out: {line}")
    with writer:
        for key, examples in parts:
            for start in range(0, len(examples), batch_size):
                positions = torch.arange(start, min(start + batch_size, len(examples)))
                embeddings, scores = source.embed(examples.examples.batch(positions))
                _require_finite(embeddings, examples, start)
                if not decided:
                    columns, told = _columns(source, scores, data)
                    decided = True
                    if told:
                        tell(told)
                labels = examples.labels[positions]
                chosen = None if columns is None or scores is None else scores[:, columns]
                writer.write(
                    embeddings,
                    labels,
                    predictions=None if chosen is None else chosen.argmax(dim=1),
                    losses=None if chosen is None else cross_entropy(chosen, labels, reduction="none"),
                    scores=chosen,
                    names=[examples.examples.name(position) for position in positions.tolist()],
                    splits=[key] * len(positions),
                )
                progress(len(positions))
    return rows


def _head(source: Source) -> dict[str, Any]:
    """What readers of the scores must know of the head: its spec, and the strength of the prior in its training."""
    if not isinstance(source, TrainedSource):
        return {}
    return {"name": source.trained.head, "tau": source.trained.model.head.tau}


def _part(data: Dataset, key: str) -> Part:
    part: Part = getattr(data, key)
    if key == "test" and data.open_set:
        return Part(part.examples, part.labels + data.num_classes)
    return part


def _columns(source: Source, scores: Tensor | None, data: Dataset) -> tuple[Tensor | None, str]:
    if scores is None:
        return None, "no predictions: the model has no classes"
    if data.open_set:
        return None, "no predictions: the classes of the test part are none of the model's"
    return score_columns(
        source.class_names, data.class_names, scores.shape[1], required=isinstance(source, TrainedSource)
    )


def _require_finite(embeddings: Tensor, part: Part, start: int) -> None:
    finite = embeddings.isfinite().all(dim=1)
    if not finite.all():
        row = start + int((~finite).nonzero()[0])
        require(
            False, "model", f"an embedding that is not finite, of {part.examples.name(row)}", "finite numbers"
        )
