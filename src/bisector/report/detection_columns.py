"""The table of a detector's scores: one row a head, mean and standard deviation over its seeds."""

import math
from collections.abc import Sequence

from bisector.detection.evaluation.frequency import BOX_GROUPS, FREQUENCIES
from bisector.detection.evaluation.scores import BOX_METRICS
from bisector.metrics.summary import MetricInfo
from bisector.report.detection_run import DetectionRun, by_head, shown_scores
from bisector.report.measurement_parts import data_value, escape, section
from bisector.report.names import head_summary
from bisector.report.summary import SummaryRow, best_heads, format_value, leaders, told_apart

_MORE = (
    MetricInfo(
        "given",
        "On given boxes",
        "%",
        "higher",
        "Balanced accuracy of the class alone, where the annotated boxes are given.",
    ),
)
_INFO = {info.key: info for info in (*BOX_METRICS, *_MORE)}
_DIRECTION = {"higher": " Higher is better.", "lower": " Lower is better.", "": ""}
_GROUPS = {f"ap_{name}" for name in BOX_GROUPS}
_FREQUENCIES = {f"ap_{name}" for name in FREQUENCIES}


def score_rows(runs: Sequence[DetectionRun]) -> list[SummaryRow]:
    """One row a head, in the order of the heads."""
    return [
        SummaryRow.of(head, {run.seed: _values(run) for run in own}, _INFO)
        for head, own in by_head(runs).items()
    ]


def _values(run: DetectionRun) -> dict[str, float]:
    given = math.nan if run.classified is None else run.classified.balanced_accuracy
    return {**shown_scores(run.scores).values(), "given": given}


def score_metrics(rows: Sequence[SummaryRow]) -> list[MetricInfo]:
    """The metrics that some head has; COCO-LT's groups only where LVIS's do not divide the classes."""
    known = {key for key in _INFO if any(math.isfinite(row.mean[key]) for row in rows)}
    # A group that holds every class says what AP says.
    for groups in (_FREQUENCIES, _GROUPS):
        if len(groups & known) < 2:
            known -= groups
    known -= _GROUPS if known & _FREQUENCIES else set()
    return [info for key, info in _INFO.items() if key in known]


def findings(rows: Sequence[SummaryRow]) -> str:
    """The numbers that say most, and what can be told of who is best."""
    items = []
    for info in score_metrics(rows):
        # Of several heads not the lowest bias: one that finds nothing has that too.
        if info.key not in ("ap", "ap50", "ap_rare", "ap_frequent") + ("bias",) * (len(rows) == 1):
            continue
        best = leaders({row.head: row.values[info.key] for row in rows}, info.better)
        shown = next(row for row in rows if row.head == best[0])
        several = len(rows) > 1
        order = "Highest " * several
        names = f"<dd>{escape(told_apart(best))}</dd>" * several
        items.append(
            f'<div><dt>{order}{info.label}</dt><dd class="value">{_cell(shown, info)} '
            f'<span class="spread">{info.unit}</span></dd>{names}</div>'
        )
    return f'<dl class="findings">{"".join(items)}</dl>'


def results(rows: Sequence[SummaryRow]) -> str:
    """The section with the table, sortable, and what it says in words."""
    infos = score_metrics(rows)
    headings = "".join(
        f'<th scope="col" data-first="{"ascending" if info.better == "lower" else "descending"}">'
        f'<button type="button" title="{_help(info)}">{_heading(info)}</button></th>'
        for info in infos
    )
    terms = "".join(f"<dt>{_heading(info)}</dt><dd>{_help(info)}</dd>" for info in infos)
    about = "".join(
        f"<dt>{escape(row.label)}</dt><dd>{escape(summary)}</dd>"
        for row in rows
        if (summary := head_summary(row.head))
    )
    return section(
        "results",
        "Results",
        _note(rows),
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="results"><table id="summary"><thead><tr>'
        '<th scope="col" data-first="ascending" data-text><button type="button">Head</button></th>'
        f"{headings}</tr></thead><tbody>\n{''.join(_row(row, rows, infos) for row in rows)}</tbody></table></div>\n"
        "<p>A detector has a high AP (average precision) when it finds the objects of a class with tight boxes "
        "and is surer of them than of its mistakes. Every class weighs the same, however many objects it has. The "
        "bias says how unequal the classes are; it is low, too, where nothing of any class is found.</p>"
        f'<details><summary>What the columns mean</summary><dl class="terms">{terms}</dl></details>'
        + f'<details><summary>What the heads are</summary><dl class="terms">{about}</dl></details>'
        * bool(about),
    )


def _note(rows: Sequence[SummaryRow]) -> str:
    seeds = max((row.runs for row in rows), default=0)
    note = (
        f"Mean ± standard deviation over {seeds} seeds: a difference that is not clearly larger than the "
        "deviations may be chance."
        if seeds > 1
        else "One seed: how much chance there is in these numbers cannot be told."
    )
    return note + " The best of each column is shaded; click a heading to sort by it." * (len(rows) > 1)


def _row(row: SummaryRow, rows: Sequence[SummaryRow], infos: Sequence[MetricInfo]) -> str:
    label = escape(row.label)
    cells = [f'<tr><th scope="row" data-value="{label}">{label}</th>']
    for info in infos:
        best = ' class="best"' if row.head in best_heads(rows, info) else ""
        cells.append(f'<td{best} data-value="{data_value(row.mean[info.key])}">{_cell(row, info)}</td>')
    return "".join(cells) + "</tr>\n"


def _cell(row: SummaryRow, info: MetricInfo) -> str:
    mean, deviation = row.mean[info.key], row.deviation[info.key]
    spread = f' <span class="spread">± {format_value(info, deviation)}</span>' * math.isfinite(deviation)
    return format_value(info, mean).replace("-", "−") + spread


def _heading(info: MetricInfo) -> str:
    arrow = {"higher": "↑", "lower": "↓", "": ""}[info.better]
    unit = f"{info.unit} {arrow}".strip()
    return escape(info.label) + f' <span class="unit">{escape(unit)}</span>' * bool(unit)


def _help(info: MetricInfo) -> str:
    return escape(info.help + _DIRECTION[info.better])
