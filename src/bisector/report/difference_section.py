"""The differences from the baseline on the page: intervals as a picture and as a table."""

import html
from collections.abc import Sequence

from bisector.metrics.summary import MetricInfo
from bisector.report.classes import class_axis
from bisector.report.differences import (
    DifferenceRow,
    difference_metrics,
    difference_notes,
    difference_unit,
    format_difference,
)
from bisector.report.figure import FAINT, INK, MARGIN, Figure, axis
from bisector.report.names import head_label, plot_text
from bisector.report.sections import plot
from bisector.statistics.paired import PairedDifference
from bisector.training.results import Comparison

_BETTER = {"higher": "above 0 is better", "lower": "below 0 is better", "": ""}
_ARROW = {"higher": " ↑", "lower": " ↓", "": ""}


def difference_figures(rows: Sequence[DifferenceRow]) -> list[Figure]:
    """For each metric a line a head: the mean difference as a point and its interval, with zero marked."""
    return [_intervals(rows, info) for info in difference_metrics(rows)]


def difference_section(
    comparison: Comparison, rows: Sequence[DifferenceRow], figures: Sequence[Figure]
) -> str:
    """What the numbers are, the picture, and the table."""
    baseline = head_label(comparison.baseline_head)
    drawn = any(found.pairs > 1 for row in rows for found in row.differences.values())
    filled = ["A filled point: the interval does not hold 0."] if drawn else []
    notes = " ".join([*difference_notes(rows, baseline), *filled])
    infos = difference_metrics(rows)
    headings = "".join(
        f'<th scope="col">{html.escape(info.label)} <span class="unit">{html.escape(difference_unit(info))}'
        f"{_ARROW[info.better]}</span></th>"
        for info in infos
    )
    body = "\n".join(_row(row, infos) for row in rows)
    return f"""<section aria-labelledby="differences">
<h2 id="differences">Differences from {html.escape(baseline)}</h2>
<p>{html.escape(notes)}</p>
<div class="grid" style="--columns: 2">{"".join(map(plot, figures))}</div>
<div class="scroll" tabindex="0" role="region" aria-labelledby="differences">
<table>
<thead><tr><th scope="col">Head</th>{headings}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
</section>"""


def _intervals(rows: Sequence[DifferenceRow], info: MetricInfo) -> Figure:
    known = [(i, row.differences[info.key]) for i, row in enumerate(rows) if row.differences[info.key].pairs]
    intervals = any(found.pairs > 1 for _, found in known)
    unit = difference_unit(info)
    labels = [plot_text(row.label, 30) for row in rows]
    texts = [" ".join(_shown(info, found)).strip() for _, found in known]
    return Figure(
        key=f"difference-{info.key.replace('_', '-')}",
        title=f"{info.label}, {unit}",
        description=f"{info.label}: a point for each head at its mean difference from the baseline"
        + (", with its interval as a line." if intervals else "."),
        data=[
            {
                "type": "scatter",
                "mode": "markers",
                "x": [info.scale * found.mean for _, found in known],
                "y": [i for i, _ in known],
                "error_x": {
                    "type": "data",
                    "array": [info.scale * (found.high - found.mean) for _, found in known],
                    "color": INK,
                    "thickness": 1.5,
                    "width": 4,
                    "visible": intervals,
                },
                "text": texts,
                "hovertext": [labels[i] for i, _ in known],
                "hovertemplate": f"%{{hovertext}}<br>%{{text}} {unit}<extra></extra>",
                "marker": {
                    "color": INK,
                    "size": 8,
                    "symbol": ["circle" if found.clear else "circle-open" for _, found in known],
                },
            }
        ],
        layout={
            "xaxis": {**axis(f"{unit}; {_BETTER[info.better]}"), "nticks": 7, "rangemode": "tozero"},
            "yaxis": {
                **class_axis(labels),
                "tickvals": list(range(len(labels))),
                "range": [len(labels) - 0.4, -0.6],
            },
            "shapes": [
                {
                    "type": "line",
                    "x0": 0,
                    "x1": 0,
                    "yref": "paper",
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": FAINT, "width": 1.5},
                    "layer": "below",
                }
            ],
            "margin": {**MARGIN, "r": 16},
        },
        height=70 + 26 * len(rows),
    )


def _row(row: DifferenceRow, infos: Sequence[MetricInfo]) -> str:
    cells = [f'<tr><th scope="row">{html.escape(row.label)}</th>']
    for info in infos:
        mean, interval = _shown(info, row.differences[info.key])
        spread = f' <span class="spread">{interval}</span>' if interval else ""
        cells.append(f"<td>{mean}{spread}</td>")
    return "".join(cells) + "</tr>"


def _shown(info: MetricInfo, found: PairedDifference) -> tuple[str, str]:
    """As `format_difference`, with the minus sign of typography."""
    mean, interval = (text.replace("-", "−") for text in format_difference(info, found))
    return mean, interval
