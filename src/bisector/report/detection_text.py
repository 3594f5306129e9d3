"""The scores of detectors as text for a terminal."""

import math
from collections import Counter
from collections.abc import Sequence

from bisector.detection.evaluation.scores import BOX_METRICS, BoxScores
from bisector.errors import require
from bisector.report.detection_run import shown_scores
from bisector.report.summary import SummaryRow, known_metrics, legend, summary_table
from bisector.report.table import Cell, Column, Table
from bisector.report.words import number, percent, plain, shorten

ScoredRun = tuple[str, int, BoxScores]
"""The head, the seed and the scores of a training."""

_SHOWN_DIFFERENCES = ("ap", "ap50", "ap_rare", "spread")


def format_scores(runs: Sequence[tuple[str, BoxScores]], width: int = 160) -> str:
    """A row for each head: its scores, mean and standard deviation where it comes several times, and the notes.

    Columns that nobody has a number for are left out, and correlations over fewer than 5 classes. A star marks the
    best mean of a column.
    """
    times: Counter[str] = Counter()
    numbered = []
    for head, scores in runs:
        times[head] += 1
        numbered.append((head, times[head], shown_scores(scores)))
    notes = dict.fromkeys(note for _, scores in runs for note in scores.notes)
    table = format_compared(numbered, width=width, differences=False, repeats="runs")
    return "\n\n".join(filter(None, [table, "\n".join(f"Note: {plain(note)}" for note in notes)]))


def format_compared(
    runs: Sequence[ScoredRun],
    baseline: str = "",
    width: int = 160,
    *,
    differences: bool = True,
    repeats: str = "seeds",
) -> str:
    """Means and deviations, and below them the mean differences from a head with their 95% intervals.

    Heads that were trained with the same seed on the same data share what the seed decides, which a paired
    difference takes out. Where heads have not the same number of runs, a column says how many each has.

    Args:
        runs: head, seed and scores of each.
        baseline: the head that differences are taken from; the first if not given.
        width: columns of the terminal.
        differences: whether those are shown, where heads have seeds in common.
        repeats: what the runs of a head are: "seeds", or "runs" where their seeds are not known.

    Raises:
        ArgumentError: if a head was run twice with a seed, the baseline was not run, or classes differ.
    """
    rows = score_rows(runs)
    infos = known_metrics(rows, BOX_METRICS)
    if not rows:
        return "No scores."
    heads = {row.head: row for row in rows}
    require(baseline in {"", *heads}, "baseline", repr(baseline), f"one of {', '.join(heads)}")
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
    blocks += _differences(rows, heads.get(baseline, rows[0]), width) if differences else []
    return "\n\n".join(filter(None, blocks))


def score_rows(runs: Sequence[ScoredRun]) -> list[SummaryRow]:
    """A row for each head, in the order in which they come; raises as `format_compared`."""
    of: dict[str, dict[int, dict[str, float]]] = {}
    for head, seed, scores in runs:
        by_seed = of.setdefault(head, {})
        require(seed not in by_seed, "runs", f"{head} with seed {seed} twice", "each seed of a head once")
        same = scores.class_names == runs[0][2].class_names
        require(same, "runs", f"other classes in {head} with seed {seed}", "runs on the same classes")
        by_seed[seed] = scores.values()
    return [SummaryRow.of(head, found, [info.key for info in BOX_METRICS]) for head, found in of.items()]


def _differences(rows: Sequence[SummaryRow], baseline: SummaryRow, width: int) -> list[str]:
    infos = [info for info in BOX_METRICS if info.key in _SHOWN_DIFFERENCES]
    found = {
        row.label: [row.minus(baseline, info.key) for info in infos] for row in rows if row is not baseline
    }
    shown = [k for k in range(len(infos)) if any(math.isfinite(own[k].mean) for own in found.values())]
    lines = []
    for label, own in found.items():
        if any(one.pairs for one in own):
            cells = [label]
            for k in shown:
                mean, *ends = (number(infos[k].scale * value, sign="+") for value in own[k][:3])
                cells.append(mean if "–" in ends else f"{mean} ({' to '.join(ends)})")
            lines.append(cells)
    title = f"Difference from {shorten(baseline.label, 60)}, seed by seed (95% interval)"
    columns = [Column("Head", "name"), *(Column(infos[k].label, unit=infos[k].unit) for k in shown)]
    return [title, Table(columns, lines).text(width)] if shown else []


def format_classes(scores: BoxScores, most: int = 100) -> str:
    """A row for each class with a box to be found, the lowest AP first, and how many were left out."""
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
