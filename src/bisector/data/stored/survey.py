"""The first pass: labels, predictions and splits of every row, and never a vector."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from bisector.data.embedding_columns import SPLITS, Array, Kind, floats, kind_of_scores, one_each, split_codes
from bisector.data.label_classes import Classes, LabelValues
from bisector.data.stored.part import Source
from bisector.errors import require


@dataclass(frozen=True, eq=False)
class Survey:
    """What the small columns say of the whole.

    Args:
        classes: and what means them.
        counts: (C,) int64, rows of each class that have a label: of the training split, or of all if it has none.
        train_only: whether these are those of the training split.
        rows: how many there are.
        split_rows: how many there are of each split that has any.
        kind: of the scores; "logits" where there are none.
    """

    classes: Classes
    counts: Array  # (C,)
    train_only: bool
    rows: int
    split_rows: dict[str, int]
    kind: Kind


def survey(source: Source, kind: Kind | None = None) -> Survey:
    """Find the classes, count their rows, and find out what the scores are.

    Args:
        source: of the rows.
        kind: what the scores are said to be.

    Raises:
        ArgumentError: a label is not a class, a word no split, or nothing has a label.
    """
    about = source.about
    seen = LabelValues()
    counters: dict[int, Counter[Any]] = {}
    in_split: Counter[int] = Counter()
    rows = 0
    for piece in source.pieces(source.parts, ("labels", "predictions", "splits")):
        labels = one_each("labels", piece.columns["labels"])
        seen.add(labels, piece.columns.get("predictions"))
        there = np.zeros(len(labels), dtype=np.uint8)
        codes = split_codes(piece.columns["splits"]) if "splits" in piece.columns else there
        rows += len(labels)
        for code in np.unique(codes).tolist():
            of_split = labels[codes == code]
            in_split[code] += len(of_split)
            counters.setdefault(code, Counter()).update(_tallied(of_split))
    classes = seen.classes(about.class_names, about.num_scores)
    if about.num_scores is not None:
        fits = about.num_scores == len(classes.names)
        expected = f"({rows}, {len(classes.names)}), a column a class"
        require(fits, "scores", f"shape ({rows}, {about.num_scores})", expected)
    counts = {code: _counts(classes, counter) for code, counter in counters.items()}
    labelled = sum((each.sum() for each in counts.values()), 0)
    require(labelled > 0, "file", "no row that has a label and a finite vector", "at least one")
    has_splits = "splits" in about.keys
    train = counts.get(0)
    train_only = bool(has_splits and train is not None and train.any())
    measured = np.asarray(train if train_only else sum(counts.values()), dtype=np.int64)
    split_rows = {SPLITS[code]: in_split[code] for code in sorted(in_split)} if has_splits else {}
    return Survey(classes, measured, train_only, rows, split_rows, _kind(source, kind))


def _tallied(column: Array) -> dict[Any, int]:
    if column.dtype.kind == "O":
        return Counter(column.tolist())
    values, counts = np.unique(column, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _counts(classes: Classes, counter: Counter[Any]) -> Array:  # (C,)
    values = np.empty(len(counter), dtype=object)
    values[:] = list(counter)
    numbers, _, known = classes.numbers(values)
    times = np.array(list(counter.values()), dtype=np.int64)
    found = np.zeros(len(classes.names), dtype=np.int64)
    np.add.at(found, numbers[known], times[known])
    return found


def _kind(source: Source, kind: Kind | None) -> Kind:
    """What the scores are. Where only their rows can say it these are read, until one of them says "logits"."""
    name = source.about.scores_name
    if "scores" not in source.about.keys:
        return "logits"
    found: Kind = "logits"
    for piece in source.pieces(source.parts, ("scores",)):
        scores = floats(name, piece.columns["scores"])
        if kind is not None or name in {"logits", "probabilities"}:
            return kind_of_scores(name, scores, kind)[0]
        if np.isfinite(scores).all(axis=1).any():
            found = kind_of_scores(name, scores)[0]
            if found == "logits":
                break
    return found
