"""Embed a data set, batch by batch, into a Parquet file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.data.dataset import Dataset, Part
from bisector.data.source import PARTS
from bisector.data.tables.writer import EmbeddingWriter
from bisector.embedding.model import EmbeddingModel
from bisector.embedding.outputs import Logits
from bisector.errors import ArgumentError, require, require_choice, require_integer
from bisector.posthoc import BaseAdjustment


def embed(
    model: EmbeddingModel,
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
    file is whole or not there. Scores are the model's own, without a margin; predictions and losses (cross-entropy)
    follow the decision of a model of ours that has one. Of scores that are probabilities the logarithm is
    stored. The classes of the model are matched to the data's by name. With the open-set split, the classes of
    the test part follow those of training, and there are no predictions.

    Args:
        model: that embeds.
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
    model.expect_classes(data.num_classes)
    trained = model.trained
    decision = None if trained is None else trained.followed
    writer = EmbeddingWriter(
        path,
        class_names=names,
        model=model.name,
        data=data.name,
        left_out=data.left_out,
        settings=settings,
        # What readers of the scores must know: the head, the strength of the prior in its training, and by what the
        # predictions are not simply those of the highest scores.
        head={}
        if trained is None
        else {
            "name": trained.head,
            "tau": trained.model.head.tau,
            **({} if decision is None else {"decision": decision.method}),
        },
    )
    for line in (*model.notes, *data.notes, *(f"left out: {line}" for line in data.left_out)):
        tell(line)
    columns: Tensor | None = None
    begun = False
    logits = Logits()
    with writer:
        for key, examples in parts:
            for start in range(0, len(examples), batch_size):
                positions = torch.arange(start, min(start + batch_size, len(examples)))
                embeddings, scores = model.embed(examples.examples.batch(positions))
                if scores is not None and trained is None:  # a head of ours gives logits
                    scores = logits.of(scores)
                called = [examples.examples.name(position) for position in positions.tolist()]
                finite = embeddings.isfinite().all(dim=1).tolist()
                if not all(finite):
                    got = f"an embedding that is not finite, of {called[finite.index(False)]}"
                    require(False, "model", got, "finite numbers")
                if not begun:
                    columns, told = _columns(model, scores, data)
                    begun = True
                    decided_by = "" if columns is None else _decided(decision)
                    of_scores = "" if columns is None else logits.note
                    for line in filter(None, [told, of_scores, decided_by]):
                        tell(line)
                labels = examples.labels[positions]
                chosen = None if columns is None or scores is None else scores[:, columns]
                decided = chosen
                if decision is not None and scores is not None and columns is not None:
                    decided = decision.apply(scores.double(), embeddings)[:, columns]
                writer.write(
                    embeddings,
                    labels,
                    predictions=None if decided is None else decided.argmax(dim=1),
                    losses=None
                    if decided is None
                    else cross_entropy(decided, labels, reduction="none").float(),
                    scores=chosen,
                    names=called,
                    splits=[key] * len(positions),
                )
                progress(len(positions))
    return rows


def _decided(decision: BaseAdjustment | None) -> str:
    if decision is None:
        return ""
    followed = f"predictions and losses follow the decision of the training, by {decision.method}"
    return f"{followed}; the scores are the model's own"


def _part(data: Dataset, key: str) -> Part:
    part: Part = getattr(data, key)
    shift = data.num_classes if key == "test" and data.open_set else 0
    return Part(part.examples, part.labels + shift)


def _columns(model: EmbeddingModel, scores: Tensor | None, data: Dataset) -> tuple[Tensor | None, str]:
    if scores is None:
        return None, "no predictions: the model has no classes"
    if data.open_set:
        return None, "no predictions: the classes of the test part are none of the model's"
    ours = model.trained is not None
    return score_columns(model.class_names, data.class_names, scores.shape[1], required=ours)


def score_columns(
    model_classes: tuple[str, ...] | None,
    data_classes: tuple[str, ...],
    num_scores: int,
    *,
    required: bool,
) -> tuple[Tensor | None, str]:  # (C,)
    """The column of every class of the data, matched by name, and a line to tell; None without predictions.

    Names that are written alike match, with their accents composed or not. A model that does not name its classes
    is taken to have those of the data, if it has as many.

    Args:
        model_classes: of the model's M columns.
        data_classes: of the data's C classes.
        num_scores: M.
        required: raise where a class of the data is not one of the model's.

    Raises:
        ArgumentError: as `required` says.

    >>> score_columns(("owl", "wren", "crow"), ("crow", "owl"), 3, required=True)
    (tensor([2, 0]), 'the scores are those of 2 of the 3 classes of the model')
    """
    if model_classes is None:
        if num_scores == len(data_classes):
            told = "the model does not name its classes: taken in the order of the data's"
            return torch.arange(num_scores), told
        return None, f"no predictions: the model has {num_scores} classes, the data {len(data_classes)}"
    place = {normalize("NFC", name): column for column, name in enumerate(model_classes)}
    wanted = [normalize("NFC", name) for name in data_classes]
    unknown = [name for name in wanted if name not in place]
    if unknown and required:
        few = ", ".join(map(repr, unknown[:3])) + (" …" if len(unknown) > 3 else "")
        raise ArgumentError(
            f"data: got {few}, of which the model knows nothing; expected classes that it was trained on, as "
            f"{', '.join(map(repr, model_classes[:3]))}"
        )
    if unknown:
        return None, f"no predictions: {len(unknown)} classes of the data are none of the model's"
    told = f"the scores are those of {len(data_classes)} of the {len(model_classes)} classes of the model"
    return torch.tensor([place[name] for name in wanted]), told * (len(data_classes) < len(model_classes))
