"""A comparison of heads: the text that is printed, the tables and the page that it leaves in a folder."""

import math
from collections.abc import Sequence
from pathlib import Path

from bisector.errors import require
from bisector.files import write_whole
from bisector.metrics.summary import METRICS, MetricInfo
from bisector.report import comparison_figures as figures
from bisector.report.comparison_figures import MOST_NAMES, reshuffled
from bisector.report.differences import (
    difference_notes,
    difference_rows,
    difference_table,
    format_differences,
    write_differences_csv,
)
from bisector.report.names import head_label
from bisector.report.numbers import count
from bisector.report.page import render
from bisector.report.planes import planes
from bisector.report.readings import amount_answer, size_notes
from bisector.report.summary import (
    SummaryRow,
    about_heads,
    format_value,
    metric_column,
    summary_rows,
    summary_table,
    tiles,
)
from bisector.report.table import write_records
from bisector.report.verification import format_verification, verifications, write_verification
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

    Args:
        comparison: what was found.
        folder: where to.
        width: of the terminal, in characters.
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
    return "\n\n".join([*filter(None, tables), "\n".join(pages)])


def known_metrics(rows: Sequence[SummaryRow]) -> list[MetricInfo]:
    """The metrics that any head has: those of older results are fewer."""
    return [info for info in METRICS if any(math.isfinite(row.mean[info.key]) for row in rows)]


def format_table(comparison: Comparison, width: int = 160) -> str:
    """The summary as plain text for a terminal.

    Heads stand down the side, metrics across; where the columns do not fit side by side they continue in a
    further block below. A star marks the best mean of a column, if there are several heads.

    Args:
        comparison: what was compared.
        width: columns of the terminal, at least 60.

    Raises:
        ArgumentError: if the terminal is too narrow.
    """
    require(width >= 60, "width", width, "at least 60 columns")
    rows = summary_rows(comparison)
    seeds = max((row.runs for row in rows), default=0)
    legend = ["* best mean of its column"] * (len(rows) > 1)
    legend += [f"± standard deviation over {seeds} seeds"] * (seeds > 1)
    table = summary_table(rows, known_metrics(rows), show=format_value).text(width)
    return "\n\n".join([table, *filter(None, ["\n".join(legend)])])


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
    rows, paired = summary_rows(comparison), difference_rows(comparison)
    infos = known_metrics(rows)
    columns = [metric_column(info, neither="Neither end is better.") for info in infos]
    drawn = {
        "counts": [figures.train_counts(comparison)],
        "forest": figures.difference_figures(paired),
        "accuracies": [figures.class_accuracy(comparison)],
        "clouds": figures.amount_accuracy(comparison, rows),
        "margins": figures.margins(comparison),
        "history": figures.amount_history(comparison),
        "planes": planes(comparison),
    }
    counts, data = comparison.train_counts, comparison.data
    baseline = head_label(comparison.baseline_head)
    heads = "1 head" if len(rows) == 1 else f"{len(rows)} heads compared"
    return render(
        "comparison.html",
        title=f"{heads} on {data}",
        facts=[
            f"{data} made long-tailed, imbalance {comparison.imbalance:g}"
            if comparison.imbalance > 1
            else data,
            f"{len(comparison.class_names)} classes with {max(counts)} to {min(counts)} training instances",
            f"{sum(comparison.test_counts)} test instances",
            count(len({run.seed for run in comparison.runs}), "seed"),
        ],
        command=comparison.command,
        tiles=tiles(rows, {_INFOS[key]: title for key, title in _TILES.items()}),
        figures=[figure for group in drawn.values() for figure in group],
        version=comparison.version,
        comparison=comparison,
        drawn=drawn,
        seeds=max((row.runs for row in rows), default=0),
        summary=summary_table(rows, infos, columns),
        about=about_heads(rows),
        baseline=baseline,
        notes_on_differences=difference_notes(paired, baseline),
        intervals=any(found.pairs > 1 for row in paired for found in row.differences.values()),
        differences=difference_table(paired),
        reshuffled=reshuffled(comparison),
        answer=amount_answer(rows, len(comparison.class_names)),
        directions=any(run.direction for run in comparison.runs if run.margins),
        without_margins=figures.without_margins(comparison),
        size_notes=size_notes(comparison),
        most_names=MOST_NAMES,
        biased=[plane.bias is not None for plane in comparison.planes],
    )
