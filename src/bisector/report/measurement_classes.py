"""The table of the classes on the page of a measurement."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bisector.measurement.classes import ClassMeasure, hardest
from bisector.measurement.measurement import Measurement
from bisector.report.measurement_numbers import error, number, percent
from bisector.report.measurement_parts import data_value, escape, name_style, section
from bisector.report.measurement_text import amounts_of

MOST = 2000
"""Classes in the table; of more, the first ones."""

_LONG = 30  # rows from which the table scrolls in a box of its own, its headings in sight
_BOX = ' style="max-height: 36rem; overflow-y: auto"'
_TOP = "position: sticky; top: 0; background: var(--paper); z-index: 1"
_CORNER = "position: sticky; top: 0; left: 0; background: var(--paper); z-index: 2"


@dataclass(frozen=True)
class _Column:
    label: str
    first: str  # the end that comes first
    hint: str
    value: Callable[[int], float]  # of the class at a position
    told: Callable[[float], str]
    shown: bool = True


def class_section(found: Measurement) -> str:
    """Every class with its rows, amounts and scores; a click sorts."""
    order = _order(found)
    shown, columns = order[:MOST], [column for column in _columns(found) if column.shown]
    sorted_by = "Accuracy, %" if found.tested_on else "Amount, bits"
    hint = "Click to sort; numbers in names count as numbers."
    long = len(shown) > _LONG
    head = _heading("Class", "ascending", hint, _CORNER * long, " data-text")
    for column in columns:
        mark = f' aria-sort="{column.first}"' * (column.label == sorted_by)
        head += _heading(column.label, column.first, column.hint, _TOP * long, mark)
    style = name_style([found.classes[c].name for c in shown])
    body = "".join(_row(found.classes[c].name, c, columns, style) for c in shown)
    more = f" The {MOST:,} first of {len(order):,}; classes.csv has all." if len(order) > MOST else ""
    where = f" Counts and amounts are of {found.measured_on}" + (
        f", accuracies and losses of {found.tested_on}." if found.tested_on else "."
    )
    where += f" {amounts_of(found)}."
    return section(
        "classes",
        "Class by class",
        f"{'The hardest first.' if found.tested_on else 'The largest amount first.'}{where}{more}",
        f'<div class="scroll"{_BOX * long} tabindex="0" role="region" aria-label="Classes">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>",
    )


def _order(found: Measurement) -> list[int]:
    """The positions of the classes: those with an accuracy by it, the others by their amounts."""
    position = {id(one): c for c, one in enumerate(found.classes)}
    ranked = [position[id(one)] for one in hardest(found.classes)]
    first = set(ranked)

    def amount(c: int) -> float:
        value = found.classes[c].amount
        return -value if math.isfinite(value) else math.inf

    return ranked + sorted((c for c in range(len(found.classes)) if c not in first), key=amount)


def _columns(found: Measurement) -> list[_Column]:
    tested = bool(found.tested_on)

    def of(read: Callable[[ClassMeasure], float]) -> Callable[[int], float]:
        return lambda c: read(found.classes[c])

    columns = [  # what is asked for first comes first: a narrow screen shows no more than three
        _Column(
            "Accuracy, %",
            "ascending",
            f"On {found.tested_on}.",
            of(lambda one: one.accuracy),
            percent,
            tested,
        ),
        _Column(
            "Amount, bits",
            "descending",
            f"Information amount of {found.embeddings} embeddings: the volume they fill.",
            of(lambda one: one.amount),
            number,
        ),
        _Column(
            "Rows",
            "ascending",
            f"Rows that the amount is measured on: {found.measured_on}.",
            of(lambda one: one.count),
            _whole,
        ),
        _Column(
            "Error at most, bits",
            "descending",
            "A bound: the amount is off by no more. Classes held as a sketch have one; 0 is exact.",
            of(lambda one: one.error_bound),
            error,
            any(one.error_bound > 0 for one in found.classes),  # NaN is none
        ),
        _Column(
            "Error estimated, bits",
            "descending",
            "No bound: by how much the amount may be off; it can be more. For want of a bound.",
            of(lambda one: one.error_estimate),
            error,
            any(math.isfinite(one.error_estimate) for one in found.classes),
        ),
        _Column(
            "Equal amount, bits",
            "descending",
            f"Amount on {found.equal_count:,} random rows of each class, of those that have as many.",
            of(lambda one: one.equal_amount),
            number,
            any(math.isfinite(one.equal_amount) for one in found.classes),
        ),
        _Column(
            "Mean loss",
            "descending",
            "Cross-entropy of the scores, in nats.",
            of(lambda one: one.loss),
            lambda value: number(value, 2),
            any(math.isfinite(one.loss) for one in found.classes),
        ),
        _Column(
            "Tested",
            "ascending",
            "Rows that accuracy and loss are measured on.",
            of(lambda one: one.tested),
            _whole,
            tested,
        ),
    ]
    for score in found.scores:
        if not score.brought:
            continue
        told = percent if score.percent else (lambda value: number(value, 3))
        unit = ", %" * score.percent
        hint = f"From {score.source}."
        columns.append(_Column(f"{score.name}{unit}", "ascending", hint, score.values.__getitem__, told))
    return columns


def _heading(label: str, first: str, hint: str, style: str, more: str) -> str:
    where = f' style="{style}"' if style else ""
    return (
        f'<th scope="col" data-first="{first}"{more}{where}>'
        f'<button type="button" title="{escape(hint)}">{escape(label)}</button></th>'
    )


def _row(name: str, position: int, columns: list[_Column], style: str) -> str:
    cells = [f'<th scope="row"{style} data-value="{escape(name)}">{escape(name)}</th>']
    for column in columns:
        value = column.value(position)
        cells.append(f'<td data-value="{data_value(value)}">{column.told(value)}</td>')
    return f"<tr>{''.join(cells)}</tr>\n"


def _whole(value: float) -> str:
    return f"{value:,.0f}"
