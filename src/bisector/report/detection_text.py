"""The scores of detectors as text for a terminal."""

import math
from collections import Counter
from collections.abc import Sequence

from bisector.detection.evaluation.compared import ComparedScores, compare_scores
from bisector.detection.evaluation.scores import BOX_METRICS, BoxScores
from bisector.report.detection_run import shown_scores
from bisector.report.summary import SummaryRow, known_metrics, legend, summary_table
from bisector.report.table import Cell, Column, Table
from bisector.report.words import head_label, number, percent, plain, shorten

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
    times: Counter[str] = Counter()
    numbered = []
    for head, scores in runs:
        times[head] += 1
        numbered.append((head, times[head], shown_scores(scores)))
    notes = dict.fromkeys(note for _, scores in runs for note in scores.notes)
    table = format_compared(compare_scores(numbered), width, differences=False, repeats="runs")
    return "\n\n".join(filter(None, [table, "\n".join(f"Note: {plain(note)}" for note in notes)]))


def format_compared(
    compared: Sequence[ComparedScores], width: int = 160, *, differences: bool = True, repeats: str = "seeds"
) -> str:
    """Means and deviations, and below them the mean differences from the first head with their 95% intervals.

    Where heads have not the same number of runs, a column says how many each has.

    Args:
        compared: as `compare_scores` gives them.
        width: columns of the terminal.
        differences: whether those are shown, where heads have seeds in common.
        repeats: what the runs of a head are: "seeds", or "runs" where their seeds are not known.
    """
    rows = [
        SummaryRow(one.head, head_label(one.head), len(one.seeds), one.mean, one.deviation)
        for one in compared
    ]
    infos = known_metrics(rows, BOX_METRICS)
    if not rows:
        return "No scores."
    if not infos:
        return "No score has a number: there was no box to be found."
    table = summary_table(rows, infos)
    over = f"over {rows[0].runs} {repeats}"
    if len({row.runs for row in rows}) > 1:
        over = f"over the {repeats} of each"
        table.columns.insert(1, Column(repeats.capitalize()))
        for cells, row in zip(table.rows, rows, strict=True):
            cells.insert(1, Cell(f"{row.runs}"))
    blocks = [table.text(width), "\n".join(legend(rows, over))]
    return "\n\n".join(filter(None, blocks + (_differences(compared, width) if differences else [])))


def _differences(compared: Sequence[ComparedScores], width: int) -> list[str]:
    others = [one for one in compared if any(found.pairs for found in one.difference.values())]
    infos = [
        info
        for info in BOX_METRICS
        if info.key in _SHOWN_DIFFERENCES
        and any(math.isfinite(one.difference[info.key].mean) for one in others)
    ]
    if not infos:
        return []
    rows = []
    for one in others:
        cells = [head_label(one.head)]
        for info in infos:
            mean, *ends = (number(info.scale * value, sign="+") for value in one.difference[info.key][:3])
            cells.append(mean if "–" in ends else f"{mean} ({' to '.join(ends)})")
        rows.append(cells)
    baseline = next((one.head for one in compared if not one.difference), "")
    title = f"Difference from {shorten(head_label(baseline), 60)}, seed by seed (95% interval)"
    columns = [Column("Head", "name"), *(Column(info.label, unit=info.unit) for info in infos)]
    return [title, Table(columns, rows).text(width)]


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
        "Class": [plain(" ".join(name.split())) for name in scores.class_names],
        "AP %": map(percent, scores.class_ap),
        "AP50 %": map(percent, scores.class_ap50),
        "Test boxes": [f"{n:,}" for n in scores.class_boxes],
    }
    if scores.train_counts is not None:
        columns["Training boxes"] = [f"{n:,}" for n in scores.train_counts]
    if scores.class_frequency is not None:
        columns["Frequency"] = scores.class_frequency
    if scores.class_amounts is not None:
        columns["Amount, bits"] = map(number, scores.class_amounts)
    rows = list(zip(*columns.values(), strict=True))
    lines = [Table(columns, [rows[k] for k in shown]).text(160)] if shown else []
    if len(order) > len(shown):
        lines.append(f"{len(order) - len(shown):,} more classes")
    untested = len(scores.class_names) - len(tested)
    if untested:
        lines.append(f"{untested:,} of {len(scores.class_names):,} classes have no box to be found")
    return "\n".join(lines)
