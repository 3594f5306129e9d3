"""The scores of detectors as text for a terminal."""

import math
from collections.abc import Sequence

from bisector.detection.evaluation.compared import ComparedScores, compare_scores
from bisector.detection.evaluation.scores import BOX_METRICS, BoxScores
from bisector.metrics.summary import MetricInfo
from bisector.report.detection_run import shown_scores
from bisector.report.names import head_label, plain, shorten
from bisector.report.numbers import number, percent
from bisector.report.summary import format_value, text_blocks
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
    names = [head_label(row.head) for row in rows]
    counts = [len(row.seeds) for row in rows]
    alike = len(set(counts)) == 1
    columns = [] if alike else [[repeats.capitalize(), *map(str, counts)]]
    columns += [_column(rows, info) for info in infos]
    blocks = text_blocks(names, columns, width) if infos else []
    if not rows:
        return "No scores."
    if not infos:
        return "No score has a number: there was no box to be found."
    over = f"over {counts[0]} {repeats}" if alike else f"over the {repeats} of each"
    legend = [
        *(["* best mean of its column"] if len(rows) > 1 else []),
        *([f"± standard deviation {over}"] if max(counts) > 1 else []),
    ]
    blocks += ["\n".join(legend)] if legend else []
    return "\n\n".join([*blocks, *(_differences(rows, width) if differences else [])])


def format_classes(scores: BoxScores, most: int = 100) -> str:
    """A row for each class with a box to be found, the lowest AP first, and how many were left out.

    Args:
        scores: of one run.
        most: rows.
    """
    tested = [k for k, boxes in enumerate(scores.class_boxes) if boxes]
    order = sorted(tested, key=lambda k: (scores.class_ap[k], scores.class_ap50[k]))
    shown = order[:most]
    columns = [
        ["AP %", *(percent(scores.class_ap[k]) for k in shown)],
        ["AP50 %", *(percent(scores.class_ap50[k]) for k in shown)],
        ["Test boxes", *(f"{scores.class_boxes[k]:,}" for k in shown)],
    ]
    if scores.train_counts is not None:
        columns.append(["Training boxes", *(f"{scores.train_counts[k]:,}" for k in shown)])
    if scores.class_frequency is not None:
        columns.append(["Frequency", *(scores.class_frequency[k] for k in shown)])
    if scores.class_amounts is not None:
        columns.append(["Amount, bits", *(number(scores.class_amounts[k]) for k in shown)])
    names = [plain(" ".join(scores.class_names[k].split())) for k in shown]
    more = [f"{len(order) - len(shown):,} more classes"] if len(order) > len(shown) else []
    untested = len(scores.class_names) - len(tested)
    more += (
        [f"{untested:,} of {len(scores.class_names):,} classes have no box to be found"] if untested else []
    )
    return "\n".join([*(text_blocks(names, columns, 160) if shown else []), *more])


def _column(rows: Sequence[ComparedScores], info: MetricInfo) -> list[str]:
    """The heading, then a cell a row, the means in line."""
    means = [row.mean[info.key] for row in rows]
    known = [mean for mean in means if math.isfinite(mean)]
    best = (
        (max if info.better == "higher" else min)(known)
        if info.better and len(rows) > 1 and known
        else math.nan
    )
    spreads = [
        (
            f" ± {format_value(info, row.deviation[info.key])}"
            if math.isfinite(row.deviation[info.key])
            else ""
        )
        + "*" * (row.mean[info.key] == best)
        for row in rows
    ]
    width = max(map(len, spreads))
    cells = [
        format_value(info, mean).replace("-", "−") + spread.ljust(width)
        for mean, spread in zip(means, spreads, strict=True)
    ]
    return [f"{info.label} {info.unit}".rstrip(), *cells]


def _differences(rows: Sequence[ComparedScores], width: int) -> list[str]:
    infos = [info for info in BOX_METRICS if info.key in _SHOWN_DIFFERENCES]
    others = [row for row in rows if any(d.pairs for d in row.difference.values())]
    baseline = next((row.head for row in rows if not row.difference), "")
    infos = [info for info in infos if any(math.isfinite(row.difference[info.key].mean) for row in others)]
    if not infos:
        return []
    columns = [
        [
            f"{info.label} {info.unit}".rstrip(),
            *(_difference(info, row.difference[info.key]) for row in others),
        ]
        for info in infos
    ]
    title = f"Difference from {shorten(head_label(baseline), 60)}, seed by seed (95% interval)"
    return [title, *text_blocks([head_label(row.head) for row in others], columns, width)]


def _difference(info: MetricInfo, found: PairedDifference) -> str:
    if not math.isfinite(found.mean):
        return "–"
    mean, low, high = (f"{info.scale * value:+.1f}".replace("-", "−") for value in found[:3])
    return f"{mean} ({low} to {high})" if math.isfinite(found.low) else mean
