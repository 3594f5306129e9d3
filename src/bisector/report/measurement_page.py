"""A measurement as one self-contained HTML page. Whatever comes from outside is escaped here."""

import html
import math
from collections.abc import Sequence

from bisector.measurement.classes import ClassMeasure, hardest
from bisector.measurement.confusion import Pair
from bisector.measurement.measurement import Measurement
from bisector.report.document import document
from bisector.report.figure import Figure
from bisector.report.measurement_plots import scatter_plots
from bisector.report.measurement_text import count, number, percent
from bisector.report.sections import plot

_MOST_CLASSES = 500
_MOST_ROWS = 50
_TEXT = ' style="text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem"'
_HOLDS = {True: "yes", False: "no", None: "not known"}


def render_measurement(measurement: Measurement) -> str:
    """The page of a measurement; it works offline, loads nothing and runs no script but its own."""
    title = f"What the embeddings of {measurement.data or measurement.file} say"
    figures = scatter_plots(measurement)
    content = [
        _header(measurement, title),
        _findings(measurement),
        _next(measurement),
        _classes(measurement),
        _correlations(measurement, figures),
        _pairs(measurement),
        _labels(measurement),
        _duplicates(measurement),
        _left_out(measurement),
    ]
    return document(title, content, figures, measurement.version)


def _header(found: Measurement, title: str) -> str:
    facts = [
        f"{count(found.rows, 'row')} of {count(found.dimensions, 'dimension')}",
        count(len(found.classes), "class"),
        *(f"{rows:,} {name}" for name, rows in found.splits.items()),
        *([f"model {_escape(found.model)}"] if found.model else []),
    ]
    command = f"<pre><code>{_escape(found.command)}</code></pre>" if found.command else ""
    notes = "".join(f'<p class="note">{_escape(note)}</p>' for note in found.notes)
    return f'<h1>{_escape(title)}</h1>\n<p class="lead">{" · ".join(facts)}</p>\n{command}{notes}'


def _findings(found: Measurement) -> str:
    items = []
    if found.tested_on:
        ranked = hardest(found.classes)
        accuracy = f'{percent(found.balanced_accuracy)} <span class="spread">%</span>'
        items.append(("Balanced accuracy", accuracy, f"{percent(found.accuracy)} % of {found.tested_on}"))
        if ranked:
            worst = f'{percent(ranked[0].accuracy)} <span class="spread">%</span>'
            items.append(("Hardest class", worst, ranked[0].name))
    errors, same = found.label_errors, found.duplicates
    items.append(("Suspected labels", f"{len(errors.suspects):,}", f"of {errors.judged:,} judged"))
    across = (
        f"{count(same.leaked, 'row')} across splits"
        if found.splits
        else f"in {count(len(same.groups), 'group')}"
    )
    items.append(("Duplicate rows", f"{same.rows:,}", across))
    cells = (
        f'<div><dt>{term}</dt><dd class="value">{value}</dd><dd>{_escape(note)}</dd></div>'
        for term, value, note in items
    )
    return f'<dl class="findings">{"".join(cells)}</dl>'


def _next(found: Measurement) -> str:
    step = found.step
    rules = "".join(
        f"<tr>{_cell(s.title)}{_cell(_HOLDS[s.holds])}{_cell(s.reason)}</tr>" for s in found.steps
    )
    return _section(
        "next",
        f"Next step: {_escape(step.title)}",
        _escape(step.reason),
        f"<pre><code>{_escape(step.command)}</code></pre>"
        "<details><summary>How this was chosen</summary><p>The rules are asked in this order; the first that holds "
        "is recommended.</p>" + _table(["Step", "Holds", "Found"], rules, (0, 1, 2)) + "</details>",
    )


def _classes(found: Measurement) -> str:
    ranked = hardest(found.classes)
    known = {id(one) for one in ranked}
    ranked += sorted(
        (one for one in found.classes if id(one) not in known),
        key=lambda one: -one.amount if math.isfinite(one.amount) else math.inf,
    )
    shown = ranked[:_MOST_CLASSES]
    more = (
        f" The {_MOST_CLASSES} first of {len(ranked)}; classes.csv has all."
        if len(ranked) > len(shown)
        else ""
    )
    headers = [
        ("Class", "ascending", True, "Click to sort."),
        ("Rows", "ascending", False, f"Rows that the amount is measured on: {found.measured_on}."),
        ("Amount, bits", "descending", False, "Information amount of unit embeddings: the volume they fill."),
        ("Accuracy, %", "ascending", False, f"On {found.tested_on}."),
        ("Mean loss", "descending", False, "Cross-entropy of the scores, in nats."),
        ("Tested", "ascending", False, "Rows that accuracy and loss are measured on."),
    ]
    told = [
        True,
        True,
        True,
        bool(found.tested_on),
        any(math.isfinite(c.loss) for c in ranked),
        bool(found.tested_on),
    ]
    head = "".join(
        f'<th scope="col" data-first="{first}"{" data-text" * text}>'
        f'<button type="button" title="{_escape(hint)}">{label}</button></th>'
        for (label, first, text, hint), kept in zip(headers, told, strict=True)
        if kept
    )
    body = "".join(_class_row(one, told) for one in shown)
    where = f" Counts and amounts are of {found.measured_on}" + (
        f", accuracies and losses of {found.tested_on}." if found.tested_on else "."
    )
    return _section(
        "classes",
        "Class by class",
        f"{'The hardest first.' if found.tested_on else 'The largest amount first.'}{where}{more}",
        f'<div class="scroll" tabindex="0" role="region" aria-label="Classes"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>",
    )


def _class_row(one: ClassMeasure, told: Sequence[bool]) -> str:
    cells = [
        f'<th scope="row" data-value="{_escape(one.name)}">{_escape(one.name)}</th>',
        f'<td data-value="{one.count}">{one.count:,}</td>',
        f'<td data-value="{_value(one.amount)}">{number(one.amount)}</td>',
        f'<td data-value="{_value(one.accuracy)}">{percent(one.accuracy)}</td>',
        f'<td data-value="{_value(one.loss)}">{number(one.loss, 2)}</td>',
        f'<td data-value="{one.tested}">{one.tested:,}</td>',
    ]
    return f"<tr>{''.join(cell for cell, kept in zip(cells, told, strict=True) if kept)}</tr>\n"


def _correlations(found: Measurement, figures: Sequence[Figure]) -> str:
    r = found.correlations
    chance = (
        f" Chance alone goes beyond ±{r.chance:.2f} in one case of twenty." if math.isfinite(r.chance) else ""
    )
    rows = "".join(
        f'<tr><th scope="row">{label}</th><td>{number(plain, 2)}</td><td>{number(partial, 2)}</td></tr>'
        for label, plain, partial in (
            ("Amount and accuracy", r.amount_accuracy, r.amount_accuracy_given_count),
            ("Log count and accuracy", r.count_accuracy, r.count_accuracy_given_amount),
            ("Amount and log count", r.amount_count, math.nan),
        )
    )
    table = _table(["", "r", "the third held fixed"], rows)
    grid = f'<div class="grid" style="--columns: {len(figures) or 1}">{"".join(map(plot, figures))}</div>'
    return _section(
        "correlations",
        "Does the amount, or the count, say which classes are hard?",
        "The information amount of a class is the volume of its unit embeddings, in bits. A class of few rows can "
        f"be hard for that alone, so each correlation is also given with the other quantity held fixed.{chance}",
        grid + (table if found.tested_on else ""),
    )


def _pairs(found: Measurement) -> str:
    parts = []
    if found.confused:
        rows = "".join(_confused_row(pair) for pair in found.confused)
        parts.append(
            _table(["Taken for each other", "", "First as second", "Second as first", "Mean share, %"], rows)
        )
    near = "".join(
        f"<tr>{_cell(p.first)}{_cell(p.second)}<td>{number(p.degrees)}</td></tr>" for p in found.nearest
    )
    table = _table(["Nearest mean directions", "", "Degrees"], near) if near else ""
    if parts and table:
        table = f"<details><summary>The nearest classes by angle</summary>{table}</details>"
    text = (
        "The share is a mean over the two classes, so that a rare one counts as much; pairs with a single row come "
        "last."
        if found.confused
        else "By the angle between the classes' mean directions."
    )
    return _section("pairs", "Pairs of classes", text, "".join([*parts, table])) if parts or table else ""


def _confused_row(pair: Pair) -> str:
    return (
        f"<tr>{_cell(pair.first)}{_cell(pair.second)}<td>{pair.first_as_second:,}</td>"
        f"<td>{pair.second_as_first:,}</td><td>{percent(pair.share)}</td></tr>"
    )


def _labels(found: Measurement) -> str:
    errors = found.label_errors
    if not errors.judged:
        return ""
    rows = "".join(
        f"<tr>{_cell(s.name)}{_cell(s.label)}{_cell(s.suggested)}{_cell(s.split)}<td>{s.confidence:.3f}</td></tr>"
        for s in errors.suspects[:_MOST_ROWS]
    )
    text = (
        f"{count(len(errors.suspects), 'label')} of {errors.judged:,} are suspect, by confident learning. Rows "
        "held out are judged by the model's own scores, all others by a classifier cross-validated on the "
        f"embeddings; the judge agrees with {percent(errors.agreement)} % of the labels. A suspicion is a reason "
        "to look, not a verdict."
    )
    if len(errors.suspects) > _MOST_ROWS:
        text += f" The first {_MOST_ROWS}; label_errors.csv has all."
    heading = ["Example", "Label", "Rather", "Split", "Confidence in the label"]
    return _section(
        "labels", "Suspected label errors", text, _table(heading, rows, (0, 1, 2, 3)) if rows else ""
    )


def _duplicates(found: Measurement) -> str:
    same = found.duplicates
    rows = "".join(
        f"<tr>{_cell(', '.join(g.names[:4]) + (' …' if g.size > 4 else ''))}<td>{g.size:,}</td>"
        f"{_cell(', '.join(dict.fromkeys(g.classes)))}{_cell(', '.join(dict.fromkeys(g.splits)))}</tr>"
        for g in same.groups[:_MOST_ROWS]
    )
    text = (
        f"{count(same.rows, 'row')} in {count(len(same.groups), 'group')}, whose embeddings are the same up to "
        "rounding. Those in more than one split come first, then those with more than one label."
        if same.groups
        else "No two rows have the same embedding."
    )
    if same.leaked:
        text = f"{count(same.leaked, 'row')} of validation and test are in an earlier split too. {text}"
    heading = ["Examples", "Rows", "Classes", "Splits"]
    return _section("duplicates", "Duplicates", text, _table(heading, rows, (0, 2, 3)) if rows else "")


def _left_out(found: Measurement) -> str:
    if not found.left_out:
        return ""
    items = "".join(f"<tr>{_cell(line)}</tr>" for line in found.left_out)
    return _section("left-out", "Left out", "Found in the data, and not used.", _table([], items))


def _section(key: str, title: str, text: str, content: str) -> str:
    return f'<section aria-labelledby="{key}">\n<h2 id="{key}">{title}</h2>\n<p>{text}</p>\n{content}\n</section>'


def _table(headings: Sequence[str], rows: str, text: Sequence[int] = (0,)) -> str:
    """A table whose columns at the positions `text` hold text; the others hold numbers."""
    cells = "".join(
        f'<th scope="col"{_TEXT if k in text else ""}>{heading}</th>' for k, heading in enumerate(headings)
    )
    head = f"<thead><tr>{cells}</tr></thead>" if headings else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{headings[0] if headings else "Table"}">'
        f"<table>{head}<tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    return f"<td{_TEXT}>{_escape(text)}</td>"


def _value(value: float) -> str:
    return f"{value}" if math.isfinite(value) else ""


def _escape(text: str) -> str:
    return html.escape(text)
