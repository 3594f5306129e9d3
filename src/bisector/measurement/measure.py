"""Measure a table of embeddings: everything that can be said of it, in one record."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bisector._version import __version__
from bisector.data.tables import EmbeddingTable
from bisector.data.tables.scores import scores_of
from bisector.errors import require_integer
from bisector.measurement.class_scores import ClassScores
from bisector.measurement.classes import ClassMeasure, affordable_equal_count, measure_classes
from bisector.measurement.confusion import confused_pairs, nearest_pairs
from bisector.measurement.duplicates import Duplicates, find_duplicates
from bisector.measurement.label_errors import find_label_errors
from bisector.measurement.measurement import Measurement
from bisector.measurement.next_step import next_steps
from bisector.measurement.score_measures import accuracy_of, measure_scores
from bisector.measurement.small_classes import small_note
from bisector.measurement.trials import prior_note, train_amounts, try_all
from bisector.metrics.verification import Verification, verify

SPLITS = ("train", "validation", "test")


def measure(
    table: EmbeddingTable,
    *,
    file: str = "embeddings.parquet",
    command: str = "",
    scores: Sequence[ClassScores] = (),
    equal_count: int | None = None,
    shrinkage: str = "quadratic-inverse",
    embeddings: str = "unit",
    seed: int = 0,
) -> Measurement:
    """Measure classes, correlations, confused pairs, suspected labels and duplicates, and say what to do next.

    Every adjustment that the scores could have is tried: see `bisector.measurement.trials.try_all`.

    Counts and amounts are those of the training rows, accuracies and losses those of the test rows (or of
    validation, if there are none); of all rows where the table has no splits.

    On one thread of a processor, 20,000, 50,000 and 100,000 random rows of 512 dimensions in 100 classes, four
    fifths of them for training, took 6, 13 and 23 seconds, the last with 2.9 GB of memory.

    Test rows of classes that have no training row, as the open-set split makes them, are verified: every pair, by
    cosine. That time grows with the square of their number.

    Args:
        table: of embeddings.
        file: its path, for the commands that are recommended.
        command: that led here.
        scores: of the classes, beside the accuracy that follows from predictions.
        equal_count: rows of each class for equal amounts, at least 2; None for
            `bisector.measurement.classes.affordable_equal_count`, as in a stream.
        shrinkage: one of `bisector.statistics.shrinkage.SHRINKAGES`.
        embeddings: `"unit"` or `"raw"`, what amounts are measured on.
        seed: of the rows drawn for equal amounts, and of the bootstrap.

    Raises:
        ArgumentError: if an argument is not legal.
        MissingExtraError: without scipy, scikit-learn or cleanlab.
    """
    measured, measured_on = _rows(table, ("train",))
    tested, tested_on = _rows(table, ("test", "validation"))
    held_out = (
        torch.empty(0, dtype=torch.long)
        if table.splits is None
        else torch.tensor([row for row, name in enumerate(table.splits) if name != "train"], dtype=torch.long)
    )
    dimensions = table.embeddings.shape[1]
    if equal_count is None:
        counts = torch.bincount(table.labels[measured], minlength=table.num_classes)
        equal_count = affordable_equal_count(counts, dimensions)
    else:
        require_integer("equal_count", equal_count, least=2)
    classes = measure_classes(
        table,
        measured,
        tested,
        equal_count=equal_count,
        shrinkage=shrinkage,
        embeddings=embeddings,
        seed=seed,
    )
    duplicates = find_duplicates(table)
    label_errors = find_label_errors(table, held_out)
    told = tested_on if any(one.tested for one in classes) else ""
    related = measure_scores(classes, scores, dimensions=dimensions, tested_on=told, seed=seed)
    as_adjust = (shrinkage, embeddings) == ("quadratic-inverse", "unit")  # else it measures others
    own_amounts = torch.tensor([one.amount for one in classes], dtype=torch.float64)
    trials = (
        try_all(
            scores_of(table),
            (lambda _: own_amounts) if as_adjust and measured_on == "train rows" else train_amounts,
        )
        if table.scores is not None
        else None
    )
    tested = tested[table.predicted[tested]] if table.predictions is not None else tested
    predictions = table.predictions if len(tested) else None
    return Measurement(
        file=file,
        command=command,
        version=__version__,
        data=table.data,
        model=table.model,
        rows=len(table),
        dimensions=dimensions,
        splits={name: table.splits.count(name) for name in SPLITS if name in table.splits}
        if table.splits
        else {},
        measured_on=measured_on,
        tested_on=tested_on if predictions is not None else "",
        classes=classes,
        confused=[]
        if predictions is None
        else confused_pairs(table.labels[tested], predictions[tested], table.class_names),
        nearest=nearest_pairs(table.embeddings[measured], table.labels[measured], table.class_names),
        label_errors=label_errors,
        duplicates=duplicates,
        verification=_verification(table),
        steps=next_steps(
            table, file, classes, accuracy_of(related), label_errors, duplicates, command, trials
        ),
        left_out=list(table.left_out),
        notes=[
            *_notes(table, classes, held_out, duplicates),
            *label_errors.notes,
            *(note for one in scores for note in one.notes),
        ],
        scores=related,
        trials=trials,
        equal_count=equal_count,
        shrinkage=shrinkage,
        embeddings=embeddings,
    )


def _rows(table: EmbeddingTable, wanted: tuple[str, ...]) -> tuple[Tensor, str]:
    """The rows of the first of these splits that there is, and its name; all rows if there is none."""
    for split in wanted if table.splits else ():
        rows = table.rows_of(split)
        if len(rows):
            return rows, f"{split} rows"
    return torch.arange(len(table)), "all rows"


def _verification(table: EmbeddingTable) -> Verification | None:
    rows = _never_trained_on(table)
    labels = table.labels[rows]
    counts = torch.bincount(labels)
    return verify(table.embeddings[rows], labels) if (counts > 0).sum() > 1 and counts.max() > 1 else None


def _never_trained_on(table: EmbeddingTable) -> Tensor:  # (M,)
    """The test rows of classes without a training row, where there is a training part."""
    if table.splits is None or "train" not in table.splits:
        return torch.empty(0, dtype=torch.long)
    test = table.rows_of("test")
    return test[~torch.isin(table.labels[test], table.labels[table.rows_of("train")])]


def _notes(
    table: EmbeddingTable, classes: list[ClassMeasure], held_out: Tensor, duplicates: Duplicates
) -> list[str]:
    counts = [one.count for one in classes]
    small = small_note(classes, table.embeddings.shape[1])
    new = len(torch.unique(table.labels[_never_trained_on(table)]))
    notes = []
    if not table.predicted.any():
        notes.append("No predictions: accuracy, loss, confusion and correlations with them cannot be told.")
    elif not len(held_out):
        notes.append("No rows held out: accuracy may be of rows that the model was trained on, and too high.")
    if small:
        notes.append(small)
    if new:
        notes.append(f"{new} class{'es are' if new > 1 else ' is'} of the test part alone.")
    if absent := counts.count(0) - new:
        notes.append(f"{absent} class{'es have' if absent > 1 else ' has'} no row to measure an amount on.")
    if duplicates.zero:
        notes.append(f"{duplicates.zero} embeddings are zero; they are not compared for duplicates.")
    if points := len(duplicates.points):
        notes.append(
            f"The network maps {points} class{'es' * (points > 1)} to one point, or nearly: of these, examples "
            "whose embeddings are the same may be different ones."
        )
    if table.adjusted:
        notes.append(f"The scores are not the model's own: {table.adjusted}.")
    if table.scores is not None and (note := prior_note(table.head)):
        notes.append(note)
    return notes
