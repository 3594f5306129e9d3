"""What amounts and counts say of each score, in words and as a table of the page."""

import math
from collections.abc import Sequence

from bisector.measurement.classes import fewest_rows
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import AMOUNT, EQUAL, Relationship, ScoreMeasure, accuracy_of
from bisector.report.figure import Figure
from bisector.report.measurement_numbers import count, number
from bisector.report.measurement_parts import cell, escape, section, table
from bisector.report.score_words import sentences, titled
from bisector.report.sections import plot
from bisector.statistics.bootstrap import FEWEST_ROWS, Estimate
from bisector.statistics.relation import chance_limit


def score_section(found: Measurement, figures: Sequence[Figure]) -> str:
    """A table for each score, what the amount adds to the count, the bias, and the pictures."""
    several = len(found.scores) > 1
    parts = []
    for k, score in enumerate(found.scores):
        own = [figure for figure in figures if figure.key.startswith(f"score-{k}-")]
        name = titled(score)
        heading = f"<h3>{escape(name[:1].upper() + name[1:])}</h3>" if several else ""
        words = "".join(f"<p>{escape(line)}</p>" for line in sentences(score) if line)
        parts.append(f"{heading}{_grid(own) if own else ''}{_correlations(found, score)}{words}")
    if not parts:
        parts = [_grid(figures)]
    return section(
        "correlations",
        "Does the amount, or the count, say which classes are hard?",
        f"{_about(found)}{_chance(found)}",
        "\n".join(parts),
    )


def _about(found: Measurement) -> str:
    about = (
        f"The information amount of a class is the volume of its {found.embeddings} embeddings, in bits. A class "
        "of few rows can be hard for that alone, so the correlation is also given with the other quantity held "
        "fixed: the partial one."
    )
    if any(math.isfinite(one.equal_amount) for one in found.classes):
        known = sum(math.isfinite(one.equal_amount) for one in found.classes)
        about += (
            f" The count leaks into the amount itself; equal amounts, on {found.equal_count:,} random rows of each "
            f"of {count(known, 'class')}, are free of that."
        )
        if found.equal_count < fewest_rows(found.dimensions):
            about += " So few rows of so many dimensions say little of a class: take them with care."
    intervals = any(
        math.isfinite(one.relation.pearson.low) for score in found.scores for one in score.relationships
    )
    if intervals:
        about += " Intervals hold the truth in about 95 of 100 cases (bootstrap over the classes, BCa)."
    return about


def _chance(found: Measurement) -> str:
    accuracy = accuracy_of(found.scores)
    amount = None if accuracy is None else accuracy.of(AMOUNT)
    if amount is None or amount.relation.rows < 4:
        return ""
    rows = amount.relation.rows
    if rows < FEWEST_ROWS:
        few = f"nothing is concluded from fewer than {FEWEST_ROWS}"
        return f" {count(rows, 'class')} are too few for an interval: {few}."
    return (
        f" Over {count(rows, 'class')}, chance alone takes r beyond ±{chance_limit(rows):.2f}, and the partial r "
        f"beyond ±{chance_limit(rows, held=1):.2f}, in one case of twenty."
    )


def _correlations(found: Measurement, score: ScoreMeasure) -> str:
    if not score.relationships:
        return f"<p>{escape(score.name)} is known of too few classes to correlate it.</p>"
    rows = "".join(_row(found, one) for one in score.relationships)
    headings = [f"With {escape(score.name)}", "Classes", "Pearson", "Spearman", "Partial", "Held fixed"]
    return table(headings, rows, (0, 5), f"Correlations with {escape(score.name)}")


def _row(found: Measurement, one: Relationship) -> str:
    name = f"{one.quantity.capitalize()}"
    if one.quantity == EQUAL:
        name += f', <span class="spread">{found.equal_count:,} rows</span>'
    relation = one.relation
    cells = "".join(_estimate(each) for each in (relation.pearson, relation.spearman, relation.partial))
    return f'<tr><th scope="row">{name}</th><td>{relation.rows:,}</td>{cells}{cell(one.given)}</tr>'


def _estimate(one: Estimate) -> str:
    interval = ""
    if math.isfinite(one.low):
        interval = f'<br><span class="spread">{number(one.low, 2)} to {number(one.high, 2)}</span>'
    return f"<td>{number(one.value, 2)}{interval}</td>"


def _grid(figures: Sequence[Figure]) -> str:
    columns = len(figures) or 1
    return f'<div class="grid" style="--columns: {columns}">{"".join(map(plot, figures))}</div>'
