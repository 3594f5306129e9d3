"""Measure a table of embeddings: everything that can be said of it, in one record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bisector._version import __version__
from bisector.data.tables import EmbeddingTable
from bisector.data.tables.columns import SPLITS
from bisector.data.tables.scores import scores_of
from bisector.errors import ArgumentError, require_integer
from bisector.information.amount import information_amounts
from bisector.information.geometry import Nearest, distances_of_means, nearest_means
from bisector.information.meter import InformationMeter
from bisector.information.rows import on_scale, places_by_class
from bisector.measurement.class_scores import ClassScores
from bisector.measurement.classes import (
    ClassMeasure,
    affordable_equal_count,
    most_mistaken,
    small_note,
)
from bisector.measurement.confusion import (
    FEW_CLASSES,
    Pair,
    angles_between,
    mistakes_of_counts,
    nearest_pairs,
    pairs_of_counts,
)
from bisector.measurement.draw import EqualDraw
from bisector.measurement.duplicates import Duplicates, find_duplicates
from bisector.measurement.label_errors import LabelErrors, judge_labels, label_errors_in, probe_of
from bisector.measurement.measurement import Measurement
from bisector.measurement.next_step import next_steps
from bisector.measurement.probe import Probe
from bisector.measurement.score_measures import accuracy_of, measure_scores
from bisector.measurement.tally import Tally
from bisector.measurement.trials import prior_note, train_amounts, try_all
from bisector.metrics.verification import Verification, verify
from bisector.posthoc.trial import Trials
from bisector.statistics.intrinsic_dimension import FEWEST, intrinsic_dimension
from bisector.statistics.proportion import wilson

NO_EMBEDDINGS = (
    "No embeddings: information amounts, nearest classes, intrinsic dimensions and duplicates cannot be told, nor "
    "which labels are wrong, unless by scores of held-out rows. What is said is of labels and predictions alone."
)

_MOST_NEIGHBOURS = 500
"""Rows of each class that intrinsic dimensions are measured on at most: the time grows with their square."""


@dataclass(frozen=True)
class Findings:
    """What was found in the rows of a table, in memory or as a stream; `measurement_of` says what it means.

    Args:
        table: where the data come from; its rows are not looked at.
        rows: N, without those that were left out.
        dimensions: D.
        splits: rows of each split that there is; empty without splits.
        measured_on: the rows of counts and amounts, in words.
        counts: (C,), rows that amounts are measured on.
        amounts: (C,), in bits.
        equal_amounts: (C,), on `equal_count` rows each.
        intrinsic_dimensions: (C,), on as many, or 500; NaN of classes with fewer.
        nearest_means: the nearest other class of each.
        tally: of predictions and losses.
        nearest: pairs of classes.
        angles: C x C, in degrees; empty of many classes.
        squared_distances: C x C, of the means; empty of many classes.
        label_errors: suspected.
        probe: of the embeddings, which is told of where there are no predictions; None where there is none.
        duplicates: found; None where they were not looked for.
        left_out: lines for what is not in the table, or not all of it.
        equal_count: rows of each class that equal amounts are measured on; 0 for none.
        shrinkage: of the covariances.
        embeddings: "raw" or "unit".
        seed: of intervals.
        trials: of adjustments; None where there are no scores.
        error_bounds: (C,), bits that an amount is off by at most; None where all are exact.
        error_estimates: (C,), bits that an amount may be off by, where no bound is known.
        verification: of classes without training rows.
        new_classes: that have test rows alone.
        streamed: whether the rows were read as a stream.
        notes: what else the reader should know.
    """

    table: EmbeddingTable
    rows: int
    dimensions: int
    splits: Mapping[str, int]
    measured_on: str
    counts: Tensor  # (C,)
    amounts: Tensor  # (C,)
    equal_amounts: Tensor  # (C,)
    intrinsic_dimensions: Tensor  # (C,)
    nearest_means: Nearest
    tally: Tally
    nearest: list[Pair]
    angles: list[list[float]]
    squared_distances: list[list[float]]
    label_errors: LabelErrors
    probe: Probe | None
    duplicates: Duplicates | None
    left_out: Sequence[str]
    equal_count: int
    shrinkage: str
    embeddings: str
    seed: int
    trials: Trials | None = None
    error_bounds: Tensor | None = None  # (C,)
    error_estimates: Tensor | None = None  # (C,)
    verification: Verification | None = None
    new_classes: int = 0
    streamed: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def tested(self) -> tuple[int | None, str]:
        """The split that accuracy is measured on, test or validation, or None for all rows; and its name."""
        for name in ("test", "validation"):
            if self.splits.get(name):
                return SPLITS.index(name), f"{name} rows"
        return None, "all rows"


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
        embeddings: `"unit"` or `"raw"`, what amounts, nearest means and intrinsic dimensions are measured on.
        seed: of the rows drawn for equal amounts, and of the bootstrap.

    Raises:
        ArgumentError: if an argument is not legal.
        MissingExtraError: without scipy, scikit-learn or cleanlab.
    """
    classes, splits = table.num_classes, table.split_codes
    train = table.rows_of("train") if splits is not None else torch.empty(0)
    measured = train if len(train) else torch.arange(len(table))
    measured_on = "train rows" if len(train) else "all rows"
    x, labels = table.embeddings[measured], table.labels[measured]
    counts = torch.bincount(labels, minlength=classes)
    if equal_count is None:
        equal_count = affordable_equal_count(counts, x.shape[1])
    else:
        require_integer("equal_count", equal_count, least=2)
    how: dict[str, Any] = {"shrinkage": shrinkage, "embeddings": embeddings}
    vectors = x.shape[1] > 0
    amounts, nearest = torch.full((classes,), math.nan, dtype=torch.float64), no_neighbours(classes)
    if vectors:
        meter = InformationMeter(classes, x.shape[1], **how)
        meter.update(x, labels)
        amounts, nearest = meter.compute(ranks=False).amount, nearest_of(meter)
    else:
        equal_count = 0
    draw = EqualDraw(equal_count, x.shape[1], seed)
    if equal_count >= 2:
        draw.add(measured.numpy(), labels.numpy(), x.numpy())
    tally = Tally(classes)
    tally.add(
        np.zeros(len(table), dtype=np.int64) if splits is None else splits.astype(np.int64),
        table.labels.numpy(),
        None if table.predictions is None else table.predictions.numpy(),
        None if table.losses is None else table.losses.numpy(),
    )
    new = _never_trained_on(table)
    trials = None
    if table.scores is not None:
        own = (shrinkage, embeddings, measured_on) == ("quadratic-inverse", "unit", "train rows")
        trials = try_all(scores_of(table), (lambda _: amounts.double()) if own else train_amounts)
    held_out = torch.from_numpy(np.flatnonzero(splits)) if splits is not None else torch.empty(0).long()
    judged, unjudged = judge_labels(table, held_out)
    findings = Findings(
        table=table,
        rows=len(table),
        dimensions=x.shape[1],
        splits={name: table.splits.count(name) for name in SPLITS if name in table.splits}
        if table.splits
        else {},
        measured_on=measured_on,
        counts=counts,
        amounts=amounts,
        equal_amounts=equal_amounts(draw, equal_count, classes, **how),
        intrinsic_dimensions=intrinsic_dimensions(draw, equal_count, classes, embeddings),
        nearest_means=nearest,
        tally=tally,
        nearest=nearest_pairs(x, labels, table.class_names) if vectors else [],
        angles=angles_between(x, labels, classes) if vectors and classes <= FEW_CLASSES else [],
        squared_distances=distances_between(meter) if vectors else [],
        label_errors=label_errors_in(table, judged, unjudged),
        probe=probe_of(judged, classes),
        duplicates=find_duplicates(table) if vectors else None,
        left_out=table.left_out,
        equal_count=equal_count,
        **how,
        seed=seed,
        trials=trials,
        verification=_verification(table, new) if vectors else None,
        new_classes=len(torch.unique(table.labels[new])),
    )
    return measurement_of(findings, file, command, scores)


def equal_amounts(draw: EqualDraw, count: int, classes: int, **how: Any) -> Tensor:  # (C,)
    """The amounts of the classes of which `count` rows were drawn, on these; NaN of others."""
    if count >= 2:
        x, labels = draw.of_full_classes(classes, count)
        if len(x):
            return information_amounts(x, labels, classes, **how)
    return torch.full((classes,), math.nan, dtype=torch.float64)


def intrinsic_dimensions(draw: EqualDraw, count: int, classes: int, embeddings: str) -> Tensor:  # (C,)
    """The intrinsic dimensions of the classes of which `count` rows were drawn, on 500 of these at most.

    Every class on as many rows, as the estimate grows with them: of Gaussian rows of 256 dimensions whose variances
    fall as 1/k it was 18, 26, 34 and 40 on 20, 40, 160 and 500 rows.
    """
    found = torch.full((classes,), math.nan, dtype=torch.float64)
    most = min(count, _MOST_NEIGHBOURS)
    if most >= FEWEST:
        x, labels = draw.of_full_classes(classes, most)
        rows = on_scale(x, embeddings)
        for c, places in places_by_class(labels):
            found[c] = intrinsic_dimension(rows[places])
    return found.masked_fill(found.isinf(), math.nan)  # of rows that are all as far from each other


def nearest_of(meter: InformationMeter) -> Nearest:
    """The nearest other class of each; none where no class has two rows, or all of their rows are equal."""
    try:
        return nearest_means(meter.moments(), meter.num_classes, meter.dim)
    except ArgumentError:
        return no_neighbours(meter.num_classes)


def no_neighbours(classes: int) -> Nearest:
    """What is said of the nearest class of each where none is known."""
    return Nearest(torch.full((classes,), math.nan, dtype=torch.float64), torch.full((classes,), -1))


def distances_between(meter: InformationMeter) -> list[list[float]]:
    """The squared distances between the means of all classes; none of many, or where no class has two rows."""
    if meter.num_classes > FEW_CLASSES:
        return []
    try:
        found = distances_of_means(meter.moments(), meter.num_classes, meter.dim)
    except ArgumentError:
        return []
    return [[float(f"{value:.6g}") for value in row] for row in found.tolist()]


def measurement_of(
    found: Findings, file: str, command: str, scores: Sequence[ClassScores] = ()
) -> Measurement:
    """The record of what was found, and what to do next.

    Args:
        found: in the rows.
        file: the path of the table, for the commands that are recommended.
        command: that led here.
        scores: of the classes, that the user brought.
    """
    table, (split, tested_on) = found.table, found.tested
    tested, classes = found.tally.tested(split), _classes(found, split)
    told = tested_on if tested.any() else ""
    related = measure_scores(classes, scores, dimensions=found.dimensions, tested_on=told, seed=found.seed)
    return Measurement(
        file=file,
        command=command,
        version=__version__,
        data=table.data,
        model=table.model,
        rows=found.rows,
        dimensions=found.dimensions,
        splits=dict(found.splits),
        measured_on=found.measured_on,
        tested_on=told,
        classes=classes,
        confused=pairs_of_counts(tested.tolist(), found.tally.confused(split), table.class_names),
        nearest=found.nearest,
        label_errors=found.label_errors,
        duplicates=found.duplicates,
        verification=found.verification,
        steps=next_steps(
            *(table, file, classes, accuracy_of(related), found.label_errors, found.duplicates),
            *(command, found.trials),
            vectors=found.dimensions > 0,
            counted=found.measured_on == "train rows" or (found.dimensions > 0 and not found.splits),
        ),
        left_out=list(found.left_out),
        notes=[
            *_notes(found, classes, split),
            *found.label_errors.notes,
            *(found.duplicates.notes if found.duplicates is not None else ()),
            *found.notes,
            *(note for one in scores for note in one.notes),
        ],
        scores=related,
        trials=found.trials,
        equal_count=found.equal_count,
        shrinkage=found.shrinkage,
        embeddings=found.embeddings,
        streamed=found.streamed,
        mistakes=mistakes_of_counts(found.tally.confused(split), table.class_names),
        angles=found.angles,
        squared_distances=found.squared_distances,
    )


def _classes(found: Findings, split: int | None) -> list[ClassMeasure]:
    tested, right = found.tally.tested(split), found.tally.right(split)
    with np.errstate(invalid="ignore"):
        accuracies = right / tested
    classes = len(tested)
    bounds = torch.zeros(classes) if found.error_bounds is None else found.error_bounds
    estimates = torch.full((classes,), math.nan) if found.error_estimates is None else found.error_estimates
    names, confused = found.table.class_names, found.tally.confused(split)
    nearest, mistaken = found.nearest_means.neighbour.tolist(), [0] * classes
    for code, rows in confused.items():
        mistaken[code % classes] += rows
    most = most_mistaken(confused, names)
    sure = [wilson(int(hits), int(rows)) for hits, rows in zip(right, tested, strict=True)]
    columns = (
        found.counts.long().tolist(),
        tested.tolist(),
        found.amounts.tolist(),
        accuracies.tolist(),
        found.tally.mean_losses(split).tolist(),
        found.equal_amounts.tolist(),
        bounds.tolist(),
        estimates.tolist(),
        [names[j] if j >= 0 else "" for j in nearest],
        found.nearest_means.squared_distance.tolist(),
        [confused.get(c * classes + j, 0) if j >= 0 else 0 for c, j in enumerate(nearest)],
        mistaken,
        found.intrinsic_dimensions.tolist(),
        [one.low for one in sure],
        [one.high for one in sure],
        [most[c][1] if c in most else "" for c in range(classes)],
        [most[c][0] if c in most else 0 for c in range(classes)],
        *_probed(found, classes),
    )
    return [ClassMeasure(name, *values) for name, *values in zip(names, *columns, strict=True)]


def _probed(found: Findings, classes: int) -> tuple[list[float], list[int]]:
    """The probe's accuracies, and the rows of each class that it was asked about; of none with predictions."""
    if found.probe is None or found.tally.tested(None).any():
        return [math.nan] * classes, [0] * classes
    return found.probe.accuracies.tolist(), found.probe.probed.tolist()


def _verification(table: EmbeddingTable, rows: Tensor) -> Verification | None:
    counts = torch.bincount(table.labels[rows])
    return (
        verify(table.embeddings[rows], table.labels[rows]) if (counts > 0).sum() > 1 < counts.max() else None
    )


def _never_trained_on(table: EmbeddingTable) -> Tensor:  # (M,)
    """The test rows of classes without a training row, where there is a training part."""
    if table.splits is None or "train" not in table.splits:
        return torch.empty(0, dtype=torch.long)
    test = table.rows_of("test")
    return test[~torch.isin(table.labels[test], table.labels[table.rows_of("train")])]


def _notes(found: Findings, classes: list[ClassMeasure], split: int | None) -> list[str]:
    table, same, new = found.table, found.duplicates, found.new_classes
    notes = []
    if not any(one.tested for one in classes):
        notes.append("No predictions: accuracy, loss, confusion and correlations with them cannot be told.")
        notes += [found.probe.note] if found.probe is not None else []
    elif split is None:
        notes.append("No rows held out: accuracy may be of rows that the model was trained on, and too high.")
    if not found.dimensions:
        notes.append(NO_EMBEDDINGS)
    elif small := small_note(classes, found.dimensions):
        notes.append(small)
    if found.dimensions and not any(math.isfinite(one.intrinsic_dimension) for one in classes):
        notes.append(
            f"No intrinsic dimensions: they take {FEWEST} different rows or more of each class, as many of every "
            "class. --equal-count says how many."
        )
    if new:
        notes.append(f"{new} class{'es are' if new > 1 else ' is'} of the test part alone.")
    if absent := sum(one.count == 0 for one in classes) - new:
        notes.append(f"{absent} class{'es have' if absent > 1 else ' has'} no row to measure an amount on.")
    off = [max((b for b in (one.error_bound, one.error_estimate) if b > 0), default=0.0) for one in classes]
    if sketched := [bits for bits in off if bits]:
        notes.append(
            f"{len(sketched)} class{'es do' if len(sketched) > 1 else ' does'} not fit into --memory-budget and "
            f"{'were' if len(sketched) > 1 else 'was'} sketched: amounts may be off, by as much as "
            f"{max(sketched):.3g} bits, and distances to the nearest class too. A larger budget makes more exact."
        )
    if same is not None and same.zero:
        notes.append(f"{same.zero} embeddings are zero; they are not compared for duplicates.")
    if same is not None and (points := len(same.points)):
        notes.append(
            f"The network maps {points} class{'es' * (points > 1)} to one point, or nearly: of these, examples "
            "whose embeddings are the same may be different ones."
        )
    if table.adjusted:
        notes.append(f"The scores are not the model's own: {table.adjusted}.")
    if found.trials is not None and (note := prior_note(table.head)):
        notes.append(note)
    return notes
