"""Measure a model from Python: its embeddings, its scores, and what they say of every class."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bisector.data.source import PARTS
from bisector.embedding.last_layer import listening
from bisector.embedding.outputs import Logits, chosen_scores, named_outputs
from bisector.embedding.transformers_folder import class_names_of
from bisector.errors import require
from bisector.measurement.measurement import Measurement

Batches = Iterable[Any]
"""What a `DataLoader` yields: (inputs, labels), or a dictionary that holds "labels"."""

_LABELS = ("labels", "label", "y")  # of a batch that is a dictionary
_NOT_STORED = "The table was not stored: table= stores it, and the commands above can read it."


def measure_model(
    model: nn.Module,
    loader: Batches | Mapping[str, Batches],
    class_names: Sequence[str] | None = None,
    *,
    layer: str | None = None,
    table: str | PathLike[str] | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> Measurement:
    """Say of any classifier what `bisector measure` says of stored embeddings.

    Scores are what the model returns: a tensor, or of a tuple, a dictionary or an output of transformers what is
    called logits, or is as wide as there are classes, or as what an `nn.Linear` gives that was called. Embeddings
    are what the last `nn.Linear` is given that gives as many numbers as there are scores; the notes of the record
    name it. Of scores that are probabilities the logarithm is taken, and the notes say so. The model runs in
    eval mode without gradients; afterwards every module is in the mode in which it was. All embeddings are
    held in memory. A row with the label -1 or -100, or whose embedding is not finite, is left out and counted
    in `left_out`.

    Args:
        model: a classifier.
        loader: batches (inputs, labels), or dictionaries of the model's keywords and "labels" as transformers
            takes them; or a dictionary of such loaders called "train", "validation" and "test", so that amounts are
            measured on training rows and accuracies on the others. It must not shuffle forever: it is read once.
        class_names: of the C scores; those in `model.config.id2label`, or else numbers, if None.
        layer: name of another submodule (as of `named_modules`) whose input is the embedding, (B, D) or
            (B, D, 1, 1). Of an `nn.Linear`, the output as wide as it gives is the scores.
        table: a .parquet file to which the embeddings, scores and predictions are written too.
        device: that the inputs are moved to; that of the model's weights if None.
        seed: of the rows drawn for equal amounts, and of the bootstrap.

    Returns:
        The record; `bisector.report.measurement_files.write_measurement(record, Path("folder"))` writes its page
        and tables.

    Raises:
        ArgumentError: there is no such layer, what a batch holds or the model returns does not fit, or no row has a
            label.
        MissingExtraError: without scipy, scikit-learn or cleanlab.
    """
    from bisector.data.tables import EmbeddingTable, write_embeddings
    from bisector.measurement.measure import measure

    if table is not None:
        legal = Path(table).suffix.lower() in {".parquet", ".pq"}
        require(legal, "table", fspath(table), "a name that ends in .parquet, which is what is written")
    named = _class_names(model, class_names)
    rows = _Rows(named)
    notes: dict[str, None] = {}  # a set in order
    for split, batches in _splits(loader):
        for embeddings, scores, labels, note in _embedded(model, batches, layer, device, rows.classes):
            rows.add(embeddings, scores, labels, split)
            notes[note] = None
    require(any(map(len, rows.labels)), "loader", "no row that has a label", "at least one")
    logits = Logits()
    labels, scores = torch.cat(rows.labels), logits.of(torch.cat(rows.scores))
    if logits.note:
        notes[f"{logits.note[0].upper()}{logits.note[1:]}."] = None
    known = scores.isfinite().all(dim=1)
    losses = cross_entropy(scores, labels, reduction="none").masked_fill(~known, torch.nan)
    held = EmbeddingTable(
        embeddings=torch.cat(rows.embeddings),
        labels=labels,
        class_names=tuple(named or map(str, range(scores.shape[1]))),
        predictions=scores.argmax(dim=1).masked_fill(~known, -1),
        losses=losses,
        scores=scores.masked_fill(~known[:, None], torch.nan),
        splits=rows.splits if isinstance(loader, Mapping) else None,
        left_out=rows.left_out(),
        model=type(model).__name__,
    )
    if table is not None:
        write_embeddings(held, Path(table))
    file = "embeddings.parquet" if table is None else fspath(table)
    found = measure(held, file=file, seed=seed)
    return replace(found, notes=[*found.notes, *notes, *([_NOT_STORED] if table is None else [])])


class _Rows:
    """The rows of all batches, and how many were left out."""

    def __init__(self, class_names: Sequence[str] | None) -> None:
        self.classes = None if class_names is None else len(class_names)
        self.embeddings: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.splits: list[str] = []
        self._counted: Counter[str] = Counter()

    def add(self, embeddings: Tensor, scores: Tensor, labels: Tensor, split: str) -> None:
        if self.classes is None:
            self.classes = scores.shape[1]
        width = self.classes
        require(scores.shape[1] == width, "model", f"{scores.shape[1]} scores", f"{width}, one a class")
        unknown = (labels == -1) | (labels == -100)
        stray = labels[~unknown & ((labels < 0) | (labels >= width))]
        require(not len(stray), "loader", f"the label {stray[:1].tolist()}", f"classes from 0 to {width - 1}")
        broken = ~embeddings.isfinite().all(dim=1) & ~unknown
        self._counted["without a label"] += int(unknown.sum())
        self._counted["its vector is not finite"] += int(broken.sum())
        kept = ~(unknown | broken)
        self.embeddings.append(embeddings[kept])
        self.scores.append(scores[kept])
        self.labels.append(labels[kept])
        self.splits += [split] * int(kept.sum())

    def left_out(self) -> tuple[str, ...]:
        return tuple(f"{n} row{'s' * (n > 1)}: {why}" for why, n in self._counted.items() if n)


def _class_names(model: nn.Module, given: Sequence[str] | None) -> Sequence[str] | None:
    """The names that were given, or those that a model of transformers has."""
    if given is None:
        given = class_names_of(getattr(model, "config", None))
    if given is None:
        return None
    twice = [name for name, times in Counter(given).items() if times > 1]
    require(not twice, "class_names", f"{twice[:1]} twice", "one name a class")
    require(len(given) > 1, "class_names", list(given), "two names or more, one a score")
    return given


def _splits(loader: Batches | Mapping[str, Batches]) -> Iterable[tuple[str, Batches]]:
    if not isinstance(loader, Mapping):
        return [("", loader)]
    other = [name for name in loader if name not in PARTS]
    require(not other and bool(loader), "loader", f"parts {list(loader)}", f"some of {', '.join(PARTS)}")
    return loader.items()


def _embedded(
    model: nn.Module,
    batches: Batches,
    layer: str | None,
    device: torch.device | str | None,
    classes: int | None,
) -> Iterator[tuple[Tensor, Tensor, Tensor, str]]:
    """The embeddings (B, D), scores (B, C) and labels (B,) of every batch, on the CPU, and what they are."""
    first = next(model.parameters(), None)
    where = torch.device(device) if device is not None else first.device if first is not None else None
    with listening(model, layer) as heard:
        for batch in batches:
            inputs, labels = _divided(batch)
            heard.forget()
            with torch.no_grad(), _evaluating(model):
                moved = _moved(inputs, where)
                output = model(**moved) if isinstance(moved, dict) else model(moved)
            scores, told = _scores(output, classes, len(labels), heard.linear)
            vectors = heard.vectors(len(labels), classes=scores.shape[1])
            yield vectors, scores, labels, f"{heard.note}{told}"


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, and afterwards every module in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _divided(batch: Any) -> tuple[Any, Tensor]:
    """The inputs and the labels of a batch."""
    if isinstance(batch, Mapping):
        key = next((name for name in _LABELS if name in batch), None)
        legal = f"a key {' or '.join(map(repr, _LABELS))}"
        require(key is not None, "loader", f"a batch with the keys {', '.join(map(repr, batch))}", legal)
        inputs: Any = {name: value for name, value in batch.items() if name != key}
        labels = batch[key]
    else:
        fits = isinstance(batch, tuple | list) and len(batch) == 2
        require(
            fits, "loader", f"a batch that is a {type(batch).__name__}", "(inputs, labels) or a dictionary"
        )
        inputs, labels = batch
    labels = torch.as_tensor(labels)
    whole = labels.ndim == 1 and not labels.is_floating_point() and not labels.is_complex()
    told = f"labels of shape {tuple(labels.shape)} and type {labels.dtype}"
    require(whole, "loader", told, "(B,) whole numbers, one class a row")
    return inputs, labels.long().cpu()


def _moved(inputs: Any, device: torch.device | None) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _moved(value, device) for name, value in inputs.items()}
    return inputs.to(device) if isinstance(inputs, Tensor) and device is not None else inputs


def _scores(
    output: Any, classes: int | None, rows: int, layers: Collection[tuple[int, int]]
) -> tuple[Tensor, str]:  # (B, C)
    """The scores, and which of several outputs they are."""
    tensors = named_outputs(output)
    widths = {name: value.shape[1] for name, value in tensors.items()}
    chosen = chosen_scores(widths, classes or 0, layers)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    fits = chosen is not None and len(tensors[chosen]) == rows and widths[chosen] > 1
    require(
        fits, "model", f"an output that is {shape}", f"scores ({rows}, C), one a class, two classes or more"
    )
    assert chosen is not None
    told = f" Scores are the output {chosen!r} of {', '.join(map(repr, widths))}." if len(widths) > 1 else ""
    return tensors[chosen].detach().float().cpu(), told
