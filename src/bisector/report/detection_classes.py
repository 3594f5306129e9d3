"""The table of the classes on the page of a detector."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bisector.report.detection_run import DetectionRun, by_head, same_data
from bisector.report.measurement_parts import data_value, escape, name_style, section
from bisector.report.names import head_label
from bisector.report.numbers import number, percent

MOST = 2000
"""Classes in the table; of more, those with most test boxes."""

_LONG = 30  # rows from which the table scrolls in a box of its own, its headings in sight
_BOX = ' style="max-height: 36rem; overflow-y: auto"'
_TOP = ' style="position: sticky; top: 0; background: var(--paper); z-index: 1"'
_LEFT = ' style="text-align: left"'
_LEFT_TOP = _TOP.replace(' style="', ' style="text-align: left; ')
_CORNER = ' style="position: sticky; top: 0; left: 0; background: var(--paper); z-index: 2"'


def class_ap(runs: Sequence[DetectionRun], field: str = "class_ap") -> list[float]:
    """The AP of every class, the mean over these runs; NaN where none has one."""
    every = zip(*(map(float, getattr(run.scores, field)) for run in runs), strict=True)
    return [
        statistics.fmean(known)
        if (known := [value for value in values if math.isfinite(value)])
        else math.nan
        for values in every
    ]


def training_boxes(runs: Sequence[DetectionRun]) -> list[float]:
    """The training boxes of every class, the mean over the runs; NaN where none says."""
    every = [run.scores.train_counts for run in runs if run.scores.train_counts is not None]
    if not every:
        return [math.nan] * len(runs[0].scores.class_names)
    return [statistics.fmean(counts) for counts in zip(*every, strict=True)]


def class_groups(runs: Sequence[DetectionRun]) -> Sequence[str]:
    """Whether a class is "rare", "common" or "frequent"; empty words where that divides nothing."""
    groups = runs[0].scores.class_frequency or ()
    return groups if len(set(groups)) > 1 else [""] * len(runs[0].scores.class_names)


@dataclass(frozen=True)
class _Column:
    label: str
    values: Sequence[float]  # of every class
    told: Callable[[float], str] = percent
    first: str = "ascending"  # the end that comes first


def class_section(runs: Sequence[DetectionRun]) -> str:
    """Every class with its boxes and its AP by head; a click sorts. Of runs with other data only the first's."""
    every, runs = runs, same_data(runs)
    scores, groups, columns = runs[0].scores, class_groups(runs), _columns(runs)
    trained = [n if math.isfinite(n) else 0.0 for n in training_boxes(runs)]
    order = sorted(range(len(groups)), key=lambda c: (not scores.class_boxes[c], trained[c], c))[:MOST]
    long, grouped = len(order) > _LONG, any(groups)
    head = _heading("Class", "ascending", _CORNER * long, " data-text")
    if grouped:
        head += _heading("Group", "ascending", _LEFT_TOP if long else _LEFT, " data-text")
    for column in columns:
        head += _heading(column.label, column.first, _TOP * long)
    style = name_style([scores.class_names[c] for c in order])
    rows = []
    for c in order:
        name, group = escape(scores.class_names[c]), escape(groups[c])
        cells = [f'<th scope="row"{style} data-value="{name}">{name}</th>']
        cells += [f'<td{_LEFT} data-value="{group}">{group}</td>'] * grouped
        cells += [f'<td data-value="{data_value(x.values[c])}">{x.told(x.values[c])}</td>' for x in columns]
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    text = (
        "AP in percent, the classes with the fewest training boxes first."
        if any(trained)
        else "AP in percent."
    )
    if len(runs) < len(every):
        text += f" Seeds had boxes of their own: these are of seed {runs[0].seed} alone."
    if 0 in scores.class_boxes:
        text += " A class without a box in the test pictures has none."
    if len(order) < len(groups):
        text += f" {MOST:,} of {len(groups):,} classes."
    return section(
        "classes",
        "Class by class",
        text,
        f'<div class="scroll"{_BOX * long} tabindex="0" role="region" aria-label="Classes">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>",
    )


def _columns(runs: Sequence[DetectionRun]) -> list[_Column]:
    scores, heads, trained = runs[0].scores, by_head(runs), training_boxes(runs)
    columns = [_Column("Training boxes", trained, _whole)] if any(map(math.isfinite, trained)) else []
    columns.append(_Column("Test boxes", scores.class_boxes, _whole))
    if len(heads) > 1:
        return columns + [_Column(f"{head_label(head)}, AP", class_ap(own)) for head, own in heads.items()]
    # Amounts are those of one network: with several heads there is no amount of a class.
    if scores.class_amounts is not None and len(runs) == 1:
        columns.append(_Column("Amount, bits", scores.class_amounts, number, "descending"))
    return [*columns, _Column("AP", class_ap(runs)), _Column("AP50", class_ap(runs, "class_ap50"))]


def _heading(label: str, first: str, style: str, more: str = "") -> str:
    return f'<th scope="col" data-first="{first}"{more}{style}><button type="button">{escape(label)}</button></th>'


def _whole(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "–"
