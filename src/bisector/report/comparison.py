"""A comparison of heads: the text that is printed, the tables and the page that it leaves in a folder."""

import math
from pathlib import Path

from bisector.errors import require
from bisector.files import write_whole
from bisector.metrics.summary import FIRST_METRICS, METRICS
from bisector.report import comparison_figures as figures
from bisector.report.amounts import amount_accuracy, amount_answer, amount_history, size_notes
from bisector.report.differences import (
    GAINS,
    decision_gains,
    difference_figures,
    difference_notes,
    difference_table,
    differences_of,
    format_differences,
    write_differences_csv,
)
from bisector.report.page import render
from bisector.report.parts import Section
from bisector.report.planes import planes
from bisector.report.summary import (
    about_heads,
    known_metrics,
    legend,
    metric_column,
    summary_rows,
    summary_table,
    tiles,
)
from bisector.report.table import Column, Values, class_table, write_records
from bisector.report.tested_classes import (
    classes_of_training,
    hardest_first,
    matrix_classes,
    matrix_figure,
    matrix_table,
    tested_columns,
)
from bisector.report.verdict import Verdict, verdict
from bisector.report.verification import format_verification, verifications, write_verification
from bisector.report.words import count, head_label, number, percent, whole
from bisector.training.results import Comparison

_INFOS = {info.key: info for info in METRICS}
# The numbers that say most about fairness to every class. Not the lowest bias: a head that is bad at all has that.
_TILES = {
    "balanced_accuracy": "Highest balanced accuracy",
    "worst_class": "Best worst class",
    "few": "Best on the rarest classes",
}


def write_outputs(comparison: Comparison, folder: Path, *, width: int) -> str:
    """Write comparison.json, its tables and its page; return what to print.

    Where classes that were never trained on were verified, that comes first, with a page of its own.
    """
    comparison.write(folder / "comparison.json")
    write_csv(comparison, folder / "comparison.csv")
    write_differences_csv(comparison, folder / "differences.csv")
    write_whole(folder / "report.html", render_page(comparison))
    tables = [format_table(comparison, width=width), format_differences(comparison, width=width)]
    pages = [f"The page with the pictures: {folder / 'report.html'}"]
    verified = verifications(comparison.runs)
    if verified:
        note = "Below: classes that were trained on, in images that were not."
        tables = [format_verification(verified), note, *tables]
        page = write_verification(comparison.runs, comparison.data, comparison.command, folder)
        pages += [f"The page with the ROC: {page}"]
    return "\n\n".join([*filter(None, tables), "\n".join(pages), *verdict(comparison).lines])


def format_table(comparison: Comparison, width: int = 160) -> str:
    """The summary as plain text for a terminal.

    Heads stand down the side, metrics across; where the columns do not fit side by side they continue in a
    further block below. A star marks the best mean of a column, if there are several heads.
    """
    require(width >= 60, "width", width, "at least 60 columns")
    rows = summary_rows(comparison)
    table = summary_table(rows, known_metrics(rows, FIRST_METRICS)).text(width).replace("−", "-")
    seeds = max((row.runs for row in rows), default=0)
    return "\n\n".join(filter(None, [table, "\n".join(legend(rows, f"over {seeds} seeds"))]))


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one row a run: head, seed, every metric (accuracies 0 to 1) and the seconds it took."""
    keys = [info.key for info in METRICS]
    rows = (
        [run.head, run.seed, *(run.metrics.get(key, math.nan) for key in keys), run.seconds]
        for run in comparison.runs
    )
    write_records(path, ["head", "seed", *keys, "seconds"], rows)


def render_page(comparison: Comparison) -> str:
    """The report as one HTML page that works offline and from `file://`."""
    rows, counts, data = summary_rows(comparison), comparison.train_counts, comparison.data
    said, alone = verdict(comparison), _alone(comparison)
    heads = len(rows) - len(comparison.decided_heads)
    long_tailed = f"{data} made long-tailed, imbalance {comparison.imbalance:g}"
    return render(
        "comparison.html",
        [*(_class_sections(comparison) if alone else []), *_sections(comparison), _next_section(said)],
        title=f"{rows[0].label if heads == 1 else f'{heads} heads compared'} on {data}",
        facts=[
            long_tailed if comparison.imbalance > 1 else data,
            f"{len(comparison.class_names)} classes with {max(counts)} to {min(counts)} training instances",
            f"{sum(comparison.test_counts)} test instances",
            count(len({run.seed for run in comparison.runs}), "seed"),
        ],
        summary=[said.found],
        command=comparison.command,
        tiles=tiles(rows, {_INFOS[key]: title for key, title in _TILES.items()}),
        version=comparison.version,
    )


def _alone(comparison: Comparison) -> bool:
    """Whether there is one training: then its classes are what a reader looks for."""
    return len(comparison.runs) - len(comparison.decided_heads) == 1 and bool(comparison.runs[0].confusion)


def _class_sections(comparison: Comparison) -> list[Section]:
    classes, mistakes = classes_of_training(comparison)
    rows = Column("Training rows", sorts="ascending")
    tested = Column("Tested", sorts="ascending")
    columns: list[Values] = [
        (rows, [one.count for one in classes], whole),
        (tested, [one.tested for one in classes], whole),
        *tested_columns(classes, "the test part"),
    ]
    for run in comparison.runs[1:]:
        column = Column("As decided, %", help=f"With {run.head}.", sorts="ascending")
        columns.append((column, run.class_accuracy, percent))
    if any(math.isfinite(one.amount) for one in classes):
        hint = "Information amount: the volume of the training embeddings."
        amounts = [one.amount for one in classes]
        columns.append((Column("Amount, bits", help=hint, sorts="descending", extra=True), amounts, number))
    matrix = matrix_figure(classes, mistakes)
    return [
        Section(
            "classes",
            "Which classes suffer",
            classes=class_table([one.name for one in classes], hardest_first(classes), columns),
        ),
        Section(
            "confusion-matrix",
            "What is taken for what",
            when=matrix is not None,
            figures=[matrix] if matrix is not None else [],
            numbers=matrix_table(classes, mistakes) if matrix is not None else None,
            chosen=len(matrix_classes(classes, mistakes)),
            all_classes=len(classes),
        ),
    ]


def _next_section(said: Verdict) -> Section:
    return Section("next", "What to do next", when=bool(said.command), said=said)


def _sections(comparison: Comparison) -> list[Section]:
    rows, recipe = summary_rows(comparison), comparison.recipe
    infos = known_metrics(rows, METRICS)
    columns = [metric_column(info, neither="Neither end is better.") for info in infos]
    differences, baseline = differences_of(comparison), head_label(comparison.baseline_head)
    gains, decided = decision_gains(comparison), comparison.decided_heads
    clouds, squares = amount_accuracy(comparison, rows), figures.margins(comparison)
    history, drawn = amount_history(comparison), planes(comparison)
    return [
        Section("counts", figures=[figures.train_counts(comparison)]),
        Section(
            "results",
            "Results",
            summary=summary_table(rows, infos, columns),
            seeds=max((row.runs for row in rows), default=0),
            about=about_heads(rows),
            open=True,
        ),
        Section(
            "differences",
            f"Differences from {baseline}",
            when=bool(differences),
            figures=difference_figures(differences),
            notes=difference_notes(differences, baseline),
            intervals=any(one.pairs > 1 for own in differences.values() for one in own.values()),
            differences=difference_table(differences),
        ),
        Section(
            "decisions",
            GAINS,
            when=bool(gains),
            figures=difference_figures(gains, "decision"),
            notes=difference_notes(gains, ""),
            intervals=any(one.pairs > 1 for own in gains.values() for one in own.values()),
            differences=difference_table(gains),
        ),
        Section(
            "class-by-class",
            "Class by class",
            when=not _alone(comparison),
            figures=[figures.class_accuracy(comparison)],
            reshuffled=figures.reshuffled(comparison),
        ),
        Section(
            "amounts",
            "Does the information amount say which classes are hard?",
            when=bool(clouds),
            figures=clouds,
            answer=amount_answer(
                [row for row in rows if row.head not in decided], len(comparison.class_names)
            ),
        ),
        Section(
            "margins",
            "Margins between pairs of classes",
            when=bool(squares),
            figures=squares,
            directions=any(run.direction for run in comparison.runs if run.margins),
            without_margins=figures.without_margins(comparison),
        ),
        Section(
            "history",
            "Information amounts while training",
            when=bool(history),
            figures=history,
            notes=size_notes(comparison),
        ),
        Section(
            "planes",
            "What the embeddings look like",
            when=bool(drawn),
            figures=drawn,
            recipe=recipe,
            few=len(comparison.class_names) <= figures.MOST_NAMES,
            most_names=figures.MOST_NAMES,
            biased=[plane.bias is not None for plane in comparison.planes],
        ),
        Section(
            "recipe", "How it was trained", when=bool(recipe), recipe=recipe, left_out=comparison.left_out
        ),
    ]
