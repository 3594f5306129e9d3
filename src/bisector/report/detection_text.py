"""The scores of detectors as text for a terminal."""

import math
from collections.abc import Sequence

from bisector.detection.evaluation.compared import ComparedScores, compare_scores
from bisector.detection.evaluation.scores import BOX_METRICS, BoxScores
from bisector.metrics.summary import MetricInfo
from bisector.report.detection_run import shown_scores
from bisector.report.names import head_label, plain, shorten
from bisector.report.numbers import number, percent
from bisector.report.summary import SummaryRow, summary_table
from bisector.report.table import Cell, Column, Table
from bisector.statistics.paired import PairedDifference

_SHOWN_DIFFERENCES = ("ap", "ap50", "ap_rare", "bias")


def format_scores(runs: Sequence[tuple[str, BoxScores]], width: int = 160) -> str:
    """A row for each head: its scores, mean and standard deviation where it comes several times, and the notes.

    Columns that nobody has a number for are left out, and correlations over fewer than 5 classes. A star marks the
    best mean of a column.

    Args:
        runs: name of the head, as on the command line, and its scores.
        width: columns of the terminal.

    Raises:
        ArgumentError: if the classes of the runs differ.
    """
    times: dict[str, int] = {}
    numbered = []
    for head, scores in runs:
        times[head] = times.get(head, 0) + 1
        numbered.append((head, times[head], shown_scores(scores)))
    notes = dict.fromkeys(note for _, scores in runs for note in scores.notes)
    table = format_compared(compare_scores(numbered), width, differences=False, repeats="runs")
    return "\n\n".join(filter(None, [table, "\n".join(f"Note: {plain(note)}" for note in notes)]))


def format_compared(
    rows: Sequence[ComparedScores], width: int = 160, *, differences: bool = True, repeats: str = "seeds"
) -> str:
    """Means and deviations, and below them the mean differences from the first head with their 95% intervals.

    Where heads have not the same number of runs, a column says how many each has.

    Args:
        rows: as `compare_scores` gives them.
        width: columns of the terminal.
        differences: whether those are shown, where heads have seeds in common.
        repeats: what the runs of a head are: "seeds", or "runs" where their seeds are not known.
    """
    infos = [info for info in BOX_METRICS if any(math.isfinite(row.mean[info.key]) for row in rows)]
    if not rows:
        return "No scores."
    if not infos:
        return "No score has a number: there was no box to be found."
    counts = [len(row.seeds) for row in rows]
    table = summary_table(
        [
            SummaryRow(row.head, head_label(row.head), n, row.mean, row.deviation)
            for row, n in zip(rows, counts, strict=True)
        ],
        infos,
    )
    over = f"over {counts[0]} {repeats}"
    if len(set(counts)) > 1:
        over = f"over the {repeats} of each"
        table.columns.insert(1, Column(repeats.capitalize()))
        for cells, n in zip(table.rows, counts, strict=True):
            cells.insert(1, Cell(f"{n}"))
    legend = ["* best mean of its column"] * (len(rows) > 1)
    legend += [f"± standard deviation {over}"] * (max(counts) > 1)
    blocks = [table.text(width), "\n".join(legend), *(_differences(rows, width) if differences else [])]
    return "\n\n".join(filter(None, blocks))


def _differences(rows: Sequence[ComparedScores], width: int) -> list[str]:
    others = [row for row in rows if any(found.pairs for found in row.difference.values())]
    baseline = next((row.head for row in rows if not row.difference), "")
    infos = [
        info
        for info in BOX_METRICS
        if info.key in _SHOWN_DIFFERENCES
        and any(math.isfinite(row.difference[info.key].mean) for row in others)
    ]
    if not infos:
        return []
    columns = [Column("Head", "name"), *(Column(info.label, unit=info.unit) for info in infos)]
    table = Table(
        columns,
        ([head_label(row.head), *(_difference(i, row.difference[i.key]) for i in infos)] for row in others),
    )
    title = f"Difference from {shorten(head_label(baseline), 60)}, seed by seed (95% interval)"
    return [title, table.text(width)]


def _difference(info: MetricInfo, found: PairedDifference) -> str:
    mean, low, high = (number(info.scale * value, sign="+") for value in found[:3])
    return f"{mean} ({low} to {high})" if math.isfinite(found.low) else mean


def format_classes(scores: BoxScores, most: int = 100) -> str:
    """A row for each class with a box to be found, the lowest AP first, and how many were left out.

    Args:
        scores: of one run.
        most: rows.
    """
    tested = [k for k, boxes in enumerate(scores.class_boxes) if boxes]
    order = sorted(tested, key=lambda k: (scores.class_ap[k], scores.class_ap50[k]))
    shown = order[:most]
    columns = {
        "Class": [plain(" ".join(scores.class_names[k].split())) for k in shown],
        "AP %": [percent(scores.class_ap[k]) for k in shown],
        "AP50 %": [percent(scores.class_ap50[k]) for k in shown],
        "Test boxes": [f"{scores.class_boxes[k]:,}" for k in shown],
    }
    if scores.train_counts is not None:
        columns["Training boxes"] = [f"{scores.train_counts[k]:,}" for k in shown]
    if scores.class_frequency is not None:
        columns["Frequency"] = [scores.class_frequency[k] for k in shown]
    if scores.class_amounts is not None:
        columns["Amount, bits"] = [number(scores.class_amounts[k]) for k in shown]
    table = Table(columns, zip(*columns.values(), strict=True))
    lines = [table.text(160)] if shown else []
    if len(order) > len(shown):
        lines.append(f"{len(order) - len(shown):,} more classes")
    untested = len(scores.class_names) - len(tested)
    if untested:
        lines.append(f"{untested:,} of {len(scores.class_names):,} classes have no box to be found")
    return "\n".join(lines)
