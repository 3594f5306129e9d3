"""Measure stored embeddings that are read as a stream: the same record as of a table in memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bisector.data.tables import EmbeddingTable
from bisector.data.tables.columns import SPLITS
from bisector.errors import missing_extra, require, require_choice
from bisector.measurement.class_scores import ClassScores
from bisector.measurement.classes import choose_equal_count
from bisector.measurement.confusion import FEW_CLASSES, angles_between, nearest_pairs
from bisector.measurement.draw import EqualDraw
from bisector.measurement.duplicates import Duplicates, duplicates_of
from bisector.measurement.label_errors import Judge, LabelErrors, among, label_errors_of, probe_of
from bisector.measurement.measure import (
    Findings,
    distances_between,
    equal_amounts,
    intrinsic_dimensions,
    measurement_of,
    nearest_of,
)
from bisector.measurement.measurement import Measurement
from bisector.measurement.probe import Probe
from bisector.measurement.stream.folder import partials_folder, plan_of
from bisector.measurement.stream.job import Job, one_thread
from bisector.measurement.stream.options import Options
from bisector.measurement.stream.partial import Partial, to_judge
from bisector.measurement.trials import NOT_STREAMED
from bisector.posthoc.trial import Trials

if TYPE_CHECKING:
    from bisector.data.tables import StoredEmbeddings

ENGINES = ("stream", "dask")
MOST_LISTED = 10_000
"""Suspected labels, and groups of duplicates, that a streamed measurement lists."""

_VECTORS = 2**28  # bytes of vectors that may be near each other, read a second time

Tell = Callable[[str], None]


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
    tell: Tell = lambda line: None,
) -> Measurement:
    """Measure what `bisector.measurement.measure.measure` does, in bounded memory and without holding the rows.

    The data are cut into leaves by their parts alone; what each gives is written as a partial, and partials are
    merged by twos, always the same ones. So the numbers do not depend on the engine, on the number of workers, or
    on whether somebody was killed: called again, it goes on from the partials that are there, which stay until
    `remove_partials`. Memory is that of two or three partials and of a few blocks of rows.

    Suspected labels and duplicates are those that a table in memory has, as long as its limits are not met. The
    judge of labels learns from 65,536 rows at most, alike of every class; where there are more, the others are read
    a second time and asked about. Duplicates take 128 bytes a row, up to 1 GiB or a quarter of the memory budget:
    of more rows none are looked for. What lies near each other is read a second time, up to 256 MiB of vectors; of
    more only equal vectors count. At most 10,000 suspects and 10,000 groups are listed. No adjustment is tried, and
    nothing verified.

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
        begin: is given how many rows were measured by an earlier call.
        progress: is given how many rows were measured since the last time.
        tell: is given a line on partials that were found, and on what is read a second time.

    Raises:
        ArgumentError: if a part cannot be read, the memory budget would be broken, or the cluster cannot be used.
        MissingExtraError: without scipy, scikit-learn or cleanlab; for `engine="dask"` without dask, distributed.
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
            job.run_all(progress)
        with one_thread():
            found = job.result()
            require(
                int(found.rows.sum()) > 0,
                "file",
                "no row that has a label and a finite vector",
                "at least one",
            )
            if chosen:  # rows that were left out are known now
                counts = found.meter.counts.long()
                equal_count = min(choose_equal_count(counts, stored.dim), options.equal_count or 0)
                options = replace(options, equal_count=equal_count)
            return measurement_of(_findings(stored, found, options, tell), file, command, scores)


def _findings(stored: "StoredEmbeddings", found: Partial, options: Options, tell: Tell) -> Findings:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    information = found.meter.compute()
    equal_count, how = (
        options.equal_count or 0,
        {"shrinkage": options.shrinkage, "embeddings": options.embeddings},
    )
    means = found.meter.means
    known = (~means.isnan().any(dim=1)).nonzero().flatten()
    drawn, classes = found.drawn or EqualDraw(0, stored.dim), len(stored.class_names)
    equal = equal_amounts(drawn, equal_count, classes, **how)  # before what is below takes its memory
    duplicates = _duplicates(stored, found)
    with threadpool_limits(1):  # of the libraries of linear algebra: the same bits on any number of cores
        label_errors, probe = _label_errors(stored, found, tell)
    return Findings(
        table=EmbeddingTable(
            torch.empty(0, stored.dim),
            torch.empty(0, dtype=torch.long),
            stored.class_names,
            **stored.about,
        ),
        rows=int(found.rows.sum()),
        dimensions=stored.dim,
        splits=dict(zip(SPLITS, found.rows.tolist(), strict=True)) if stored.has_splits else {},
        measured_on="train rows" if found.train_only else "all rows",
        counts=information.count,
        amounts=information.amount,
        equal_amounts=equal,
        intrinsic_dimensions=intrinsic_dimensions(drawn, equal_count, classes, options.embeddings),
        nearest_means=nearest_of(found.meter),
        tally=found.tally,
        nearest=nearest_pairs(means[known].float(), known, stored.class_names),
        angles=angles_between(means[known].float(), known, classes) if classes <= FEW_CLASSES else [],
        squared_distances=distances_between(found.meter),
        label_errors=label_errors,
        probe=probe,
        duplicates=duplicates,
        left_out=stored.left_out_lines(found.left_out),
        equal_count=equal_count,
        shrinkage=options.shrinkage,
        embeddings=options.embeddings,
        seed=options.seed,
        trials=Trials(not_tried=(NOT_STREAMED,)) if stored.num_scores else None,
        error_bounds=information.error_bound,
        error_estimates=information.error_estimate,
        streamed=True,
        notes=[] if duplicates is not None else [_TOO_MANY.format(stored.rows)],
    )


_TOO_MANY = (
    "Duplicates were not looked for: the prints of {:,} rows take more than a quarter of --memory-budget, which is "
    "1 GiB where there is none."
)


def _names(stored: "StoredEmbeddings", found: Partial, positions: list[int]) -> list[str]:
    if "names" not in stored.reader.keys:
        return [f"row {position}" for position in positions]
    return list(stored.names_of(found.stored_rows(np.array(positions))).tolist())


def _duplicates(stored: "StoredEmbeddings", found: Partial) -> Duplicates | None:
    if found.prints is None:
        return None
    return duplicates_of(
        found.prints,
        stored.class_names,
        vectors=lambda positions: stored.vectors_of(found.stored_rows(positions)),
        names=lambda positions: _names(stored, found, positions),
        most_vectors=_VECTORS // (4 * stored.dim),
        most_groups=MOST_LISTED,
    )


def _label_errors(stored: "StoredEmbeddings", found: Partial, tell: Tell) -> tuple[LabelErrors, Probe | None]:
    judges = {}
    notes = []
    for name, rows in found.asked.items():
        if (drawn := found.learned.get(name)) is None:
            notes.append(
                f"{rows} rows of {len(stored.class_names)} classes are too many to judge their labels"
            )
            continue
        order = np.argsort(drawn.rows)
        judges[name] = Judge(name, drawn.rows[order], drawn.labels[order], drawn.embeddings[order])
    judged = [judge.suspects() for judge in judges.values()]
    others = sum(found.asked[name] - len(found.learned[name].rows) for name in judges)
    if others and any(one is not None for one in judged):
        tell(f"reading the table a second time: the judge of labels did not learn from {others:,} rows")
        for chunk in stored.chunks():
            for name, asked, features in to_judge(chunk):
                if name in judges:
                    new = asked[~among(chunk.rows[asked], judges[name].learned)]
                    judged.append(judges[name].ask(chunk.rows[new], chunk.labels[new], features[new]))

    def splits(positions: list[int]) -> list[str]:
        if not stored.has_splits:
            return [""] * len(positions)
        return [SPLITS[code] for code in stored.splits_of(found.stored_rows(np.array(positions))).tolist()]

    errors = label_errors_of(
        [replace(one, rows=found.positions(one.rows)) for one in judged if one is not None],
        [*notes, *(note for judge in judges.values() for note in judge.notes)],
        stored.class_names,
        names=lambda positions: _names(stored, found, positions),
        splits=splits,
        most=MOST_LISTED,
    )
    return errors, probe_of(judged, len(stored.class_names))
