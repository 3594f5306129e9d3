"""Measure stored embeddings that are read as a stream: the same record as of a table in memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bisector._version import __version__
from bisector.errors import require, require_choice
from bisector.information.amount import information_amounts
from bisector.measurement.class_scores import ClassScores
from bisector.measurement.classes import ClassMeasure, choose_equal_count
from bisector.measurement.confusion import Pair, nearest_pairs, pairs_of_counts
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import accuracy_of, measure_scores
from bisector.measurement.small_classes import small_note
from bisector.measurement.stream.engines import ENGINES, run_here
from bisector.measurement.stream.folder import partials_folder, plan_of
from bisector.measurement.stream.job import Job
from bisector.measurement.stream.options import Options
from bisector.measurement.stream.partial import Partial
from bisector.measurement.stream.steps import streamed_steps
from bisector.measurement.stream.tally import SPLITS
from bisector.measurement.stream.threads import one_thread
from bisector.measurement.trials import NOT_STREAMED, prior_note
from bisector.posthoc.trial import Trials

if TYPE_CHECKING:
    from bisector.data.tables import StoredEmbeddings


def measure_stream(
    stored: "StoredEmbeddings",
    partials: Path,
    *,
    options: Options = Options(),  # noqa: B008 (frozen)
    engine: str = "stream",
    scheduler: str | None = None,
    workers: int | None = None,
    file: str = "embeddings.parquet",
    command: str = "",
    scores: Sequence[ClassScores] = (),
    begin: Callable[[int], None] = lambda rows: None,
    progress: Callable[[int], None] = lambda rows: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Measurement:
    """Measure classes, correlations and confused pairs in one pass over the data and in bounded memory.

    The data are cut into leaves by their parts alone; what each gives is written as a partial, and partials are
    merged by twos, always the same ones. So the numbers do not depend on the engine, on the number of workers, or
    on whether somebody was killed: called again, it goes on from the partials that are there, which stay until
    `remove_partials`. Memory is that of two or three partials and of a few blocks of rows.

    Labels that are suspect, and duplicates, are not looked for, and no adjustment is tried: they need all rows at
    once.

    Args:
        stored: embeddings.
        partials: folder for what was measured so far, which every worker sees under the same path.
        options: of the measurement.
        engine: `"stream"`, this process, or `"dask"`, a cluster.
        scheduler: address of a Dask cluster; None for one of this machine.
        workers: of the cluster of this machine; None for one a core.
        file: the path of the data, for the commands that are recommended.
        command: that led here.
        scores: of the classes, beside the accuracy that follows from predictions.
        begin: is told how many rows were measured by an earlier call.
        progress: is told how many rows were measured since the last time.
        tell: is given a line on partials that were found.

    Raises:
        ArgumentError: if a part cannot be read, the memory budget would be broken, or the cluster cannot be used.
        MissingExtraError: without scipy; with `engine="dask"` without dask and distributed.
        OSError: if a partial cannot be written, or the cluster goes away.
    """
    require_choice("engine", engine, ENGINES)
    require(len(stored.parts) > 0, "file", "no row", "at least one")
    chosen = options.equal_count is None
    plan = plan_of(stored, options)
    options = options.resolved(stored)
    with partials_folder(partials, plan, tell) as folder:
        job = Job(stored, options, folder)
        job.tidy()
        begin(job.rows_done())
        if engine == "dask" and not job.done(job.tree.root):
            from bisector.measurement.stream.dask_engine import run_on_dask

            run_on_dask(job, progress, scheduler=scheduler, workers=workers)
        else:
            run_here(job, progress)
        with one_thread():
            found = job.result()
            if chosen:  # rows that were left out are known now
                counts = found.meter.counts.long()
                equal_count = min(choose_equal_count(counts, stored.dim), options.equal_count or 0)
                options = replace(options, equal_count=equal_count)
            return _measurement(stored, found, options, file, command, scores)


def _measurement(
    stored: "StoredEmbeddings",
    partial: Partial,
    options: Options,
    file: str,
    command: str,
    scores: Sequence[ClassScores],
) -> Measurement:
    rows = int(partial.rows.sum())
    require(rows > 0, "file", "no row that has a label and a finite vector", "at least one")
    split, tested_on = _tested(stored, partial)
    classes = _classes(stored, partial, options, split)
    tested = partial.tally.tested(split)
    told = tested_on if tested.any() else ""
    related = measure_scores(classes, scores, dimensions=stored.dim, tested_on=told, seed=options.seed)
    trials = Trials(not_tried=(NOT_STREAMED,)) if stored.num_scores else None
    return Measurement(
        file=file,
        command=command,
        version=__version__,
        data=str(stored.notes.get("data", "")),
        model=str(stored.notes.get("model", "")),
        rows=rows,
        dimensions=stored.dim,
        splits=dict(zip(SPLITS, partial.rows.tolist(), strict=True)) if stored.has_splits else {},
        measured_on="train rows" if partial.train_only else "all rows",
        tested_on=told,
        classes=classes,
        confused=pairs_of_counts(tested.tolist(), partial.tally.confused(split), stored.class_names),
        nearest=_nearest(partial, stored.class_names),
        label_errors=None,
        duplicates=None,
        verification=None,
        steps=streamed_steps(stored, file, classes, accuracy_of(related), command, trials),
        left_out=list(stored.left_out_lines(partial.left_out)),
        notes=[*_notes(stored, classes, split), *(note for one in scores for note in one.notes)],
        scores=related,
        trials=trials,
        equal_count=options.equal_count or 0,
        shrinkage=options.shrinkage,
        embeddings=options.embeddings,
        streamed=True,
    )


def _tested(stored: "StoredEmbeddings", partial: Partial) -> tuple[int | None, str]:
    """The split that accuracy is measured on: test, or validation, or all rows; and what it is called."""
    for name in ("test", "validation") if stored.has_splits else ():
        if partial.rows[SPLITS.index(name)]:
            return SPLITS.index(name), f"{name} rows"
    return None, "all rows"


def _classes(
    stored: "StoredEmbeddings", partial: Partial, options: Options, split: int | None
) -> list[ClassMeasure]:
    found = partial.meter.compute()
    tested, right = partial.tally.tested(split), partial.tally.right(split)
    losses = partial.tally.mean_losses(split).tolist()
    equal = torch.full_like(found.amount, math.nan)
    if partial.drawn is not None and options.equal_count:
        x, labels = partial.drawn.of_full_classes(len(equal), options.equal_count)
        scale, shrinkage = options.embeddings, options.shrinkage
        if len(x):
            equal = information_amounts(x, labels, len(equal), shrinkage=shrinkage, embeddings=scale)
    counts = found.count.long().tolist()
    return [
        ClassMeasure(
            name=name,
            count=counts[c],
            tested=int(tested[c]),
            amount=found.amount[c].item(),
            accuracy=int(right[c]) / int(tested[c]) if tested[c] else math.nan,
            loss=losses[c],
            equal_amount=equal[c].item(),
            error_bound=found.error_bound[c].item(),
            error_estimate=found.error_estimate[c].item(),
        )
        for c, name in enumerate(stored.class_names)
    ]


def _nearest(partial: Partial, class_names: tuple[str, ...]) -> list[Pair]:
    means = partial.meter.means
    known = (~means.isnan().any(dim=1)).nonzero().flatten()
    return nearest_pairs(means[known].float(), known, class_names)


def _known(bits: float) -> float:
    return -1.0 if math.isnan(bits) else bits


def _notes(stored: "StoredEmbeddings", classes: list[ClassMeasure], split: int | None) -> list[str]:
    absent = sum(one.count == 0 for one in classes)
    notes = []
    if not any(one.tested for one in classes):
        notes.append("No predictions: accuracy, loss, confusion and correlations with them cannot be told.")
    elif split is None:
        notes.append("No rows held out: accuracy may be of rows that the model was trained on, and too high.")
    if small := small_note(classes, stored.dim):
        notes.append(small)
    if absent:
        notes.append(f"{absent} class{'es have' if absent > 1 else ' has'} no row to measure an amount on.")
    off = [max(one.error_bound, one.error_estimate, key=_known) for one in classes]
    if sketched := [bits for bits in off if bits > 0]:
        notes.append(
            f"{len(sketched)} class{'es do' if len(sketched) > 1 else ' does'} not fit into --memory-budget and "
            f"{'were' if len(sketched) > 1 else 'was'} sketched: amounts may be off, by as much as "
            f"{max(sketched):.3g} bits. A larger budget makes more of them exact."
        )
    if adjusted := stored.notes.get("adjusted"):
        notes.append(f"The scores are not the model's own: {adjusted}.")
    head = stored.notes.get("head")
    if stored.num_scores and isinstance(head, dict) and (note := prior_note(head)):
        notes.append(note)
    return notes
