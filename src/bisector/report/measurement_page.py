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
from bisector.report.measurement_text import (
    count,
    mean_share,
    number,
    percent,
    significant,
    taken,
    verified_pairs,
)
from bisector.report.sections import plot

_MOST_CLASSES = 500
_MOST_ROWS = 50
_TEXT = ' style="text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem"'
_LEFT = ' style="text-align: left"'
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
        _verification(measurement),
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
            name = ranked[0].name
            items.append(("Hardest class", worst, f"class {name}" if name.isdigit() else name))
    if found.verification is not None:
        error = f'{percent(found.verification.eer)} <span class="spread">%</span>'
        items.append(("Equal error rate", error, "on classes never trained on"))
    errors, same = found.label_errors, found.duplicates
    if errors.judged and not errors.trusted:
        share = f"{percent(errors.agreement)}\u00a0%"
        unreliable = f"judge unreliable: agrees with {share}"
        items.append(("Suspected labels", '<span class="spread">–</span>', unreliable))
    else:
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
    lead = f"<p>{_escape(step.lead)}</p>" if step.lead else ""
    command = f"{lead}<pre><code>{_escape(step.command)}</code></pre>" if step.command else ""
    rules = "".join(
        f"<tr>{_cell(s.title)}<td>{_HOLDS[s.holds]}</td>{_cell(s.reason)}</tr>" for s in found.steps
    )
    return _section(
        "next",
        f"Next step: {_escape(step.title)}",
        _escape(step.reason),
        command
        + "<details><summary>How this was chosen</summary><p>The rules are asked in this order; the first that "
        "holds is recommended.</p>" + _table(["Step", "Holds", "Found"], rules, (0, 2)) + "</details>",
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
        ("Class", "ascending", True, "Click to sort; numbers in names count as numbers."),
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
    sorted_by = "Accuracy, %" if found.tested_on else "Amount, bits"
    head = "".join(
        f'<th scope="col" data-first="{first}"{" data-text" * text}'
        f"{_sorted(first) * (label == sorted_by)}>"
        f'<button type="button" title="{_escape(hint)}">{label}</button></th>'
        for (label, first, text, hint), kept in zip(headers, told, strict=True)
        if kept
    )
    style = _name_style([one.name for one in shown])
    body = "".join(_class_row(one, told, style) for one in shown)
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


def _sorted(order: str) -> str:
    return f' aria-sort="{order}"'


def _class_row(one: ClassMeasure, told: Sequence[bool], style: str) -> str:
    cells = [
        f'<th scope="row"{style} data-value="{_escape(one.name)}">{_escape(one.name)}</th>',
        f'<td data-value="{one.count}">{one.count:,}</td>',
        f'<td data-value="{_value(one.amount)}">{number(one.amount)}</td>',
        f'<td data-value="{_value(one.accuracy)}">{percent(one.accuracy)}</td>',
        f'<td data-value="{_value(one.loss)}">{number(one.loss, 2)}</td>',
        f'<td data-value="{one.tested}">{one.tested:,}</td>',
    ]
    return f"<tr>{''.join(cell for cell, kept in zip(cells, told, strict=True) if kept)}</tr>\n"


def _correlations(found: Measurement, figures: Sequence[Figure]) -> str:
    r = found.correlations
    chance = ""
    if math.isfinite(r.chance_partial):
        chance = (
            f" Over {count(r.classes, 'class')}, chance alone takes r beyond ±{r.chance:.2f}, and the partial r "
            f"beyond ±{r.chance_partial:.2f}, in one case of twenty."
        )
    rows = "".join(
        f'<tr><th scope="row">{label}</th><td>{number(plain, 2)}</td><td>{number(partial, 2)}</td>'
        f"{_cell(fixed)}</tr>"
        for label, plain, partial, fixed in (
            ("Amount and accuracy", r.amount_accuracy, r.amount_accuracy_given_count, "log count"),
            ("Log count and accuracy", r.count_accuracy, r.count_accuracy_given_amount, "amount"),
            ("Amount and log count", r.amount_count, math.nan, "–"),
        )
    )
    table = _table(["Over the classes", "r", "Partial r", "Held fixed"], rows, (0, 3))
    grid = f'<div class="grid" style="--columns: {len(figures) or 1}">{"".join(map(plot, figures))}</div>'
    return _section(
        "correlations",
        "Does the amount, or the count, say which classes are hard?",
        "The information amount of a class is the volume of its unit embeddings, in bits. A class of few rows can "
        f"be hard for that alone, so r is also given with the other quantity held fixed: the partial r.{chance}",
        grid + (table if found.tested_on else ""),
    )


def _pairs(found: Measurement) -> str:
    parts = []
    unknown = any(not pair.both_tested for pair in found.confused)
    if found.confused:
        style = _name_style([name for pair in found.confused for name in (pair.first, pair.second)])
        rows = "".join(_confused_row(pair, style) for pair in found.confused)
        parts.append(
            _table(
                ["A", "B", "A taken for B", "B taken for A", "Mean share, %"],
                rows,
                (0, 1),
                "Confused classes",
            )
        )
    style = _name_style([name for pair in found.nearest for name in (pair.first, pair.second)])
    near = "".join(
        f"<tr>{_cell(p.first, style)}{_cell(p.second, style)}<td>{number(p.degrees)}</td></tr>"
        for p in found.nearest
    )
    table = _table(["A", "B", "Degrees"], near, (0, 1), "Nearest classes") if near else ""
    if parts and table:
        table = f"<details><summary>The nearest classes by angle</summary>{table}</details>"
    text = (
        "Rows of one class that were taken for the other. The share is a mean over the two classes, so that a rare "
        "one counts as much; pairs with a single row come last."
        + (" Where one has no tested row, the mean is at least what is given." if unknown else "")
        if found.confused
        else "By the angle between the classes' mean directions."
    )
    return _section("pairs", "Pairs of classes", text, "".join([*parts, table])) if parts or table else ""


def _confused_row(pair: Pair, style: str) -> str:
    return (
        f"<tr>{_cell(pair.first, style)}{_cell(pair.second, style)}"
        f"<td>{taken(pair.first_as_second, pair.first_tested)}</td>"
        f"<td>{taken(pair.second_as_first, pair.second_tested)}</td><td>{mean_share(pair)}</td></tr>"
    )


def _verification(found: Measurement) -> str:
    verified = found.verification
    if verified is None:
        return ""
    rows = f'<tr><th scope="row">Equal error rate</th><td>{percent(verified.eer)}</td>'
    rows += f"<td>{percent(1 - verified.eer)}</td><td>{number(verified.eer_threshold, 3)}</td></tr>"
    for far, tar in verified.tar.items():
        rows += f'<tr><th scope="row">At a FAR of {far:g}</th><td>{100 * far:g}</td><td>{percent(tar)}</td>'
        rows += f"<td>{number(verified.thresholds[far], 3)}</td></tr>"
    missing = any(math.isnan(tar) for tar in verified.tar.values())
    text = (
        f"Every pair by the cosine of its embeddings: {verified_pairs(found)}. A pair is accepted from the "
        "threshold on; TAR is the share of the genuine pairs accepted, FAR that of the impostors. The thresholds "
        "are chosen on these very pairs; on others the rates will differ."
        + (" A dash stands where there are fewer than 1 / FAR impostor pairs." if missing else "")
    )
    table = _table(["Operating point", "FAR, %", "TAR, %", "Threshold"], rows)
    return _section("verification", "Classes never trained on", text, table)


def _labels(found: Measurement) -> str:
    errors = found.label_errors
    if not errors.judged:
        return ""
    split = bool(found.splits)
    rows = "".join(
        f"<tr>{_cell(s.name)}{_cell(s.label)}{_cell(s.suggested)}{_cell(s.split) * split}"
        f"<td>{significant(s.confidence)}</td></tr>"
        for s in errors.suspects[:_MOST_ROWS]
    )
    unreliable = (
        "" if errors.trusted else " It is itself often wrong: take this list for no more than a hint."
    )
    text = (
        f"{count(len(errors.suspects), 'label')} of {errors.judged:,} are suspect, by confident learning. Rows "
        "held out are judged by the model's own scores, all others by a classifier cross-validated on the "
        f"embeddings; the judge agrees with {percent(errors.agreement)} % of the labels.{unreliable} A suspicion "
        "is a reason to look, not a verdict."
    )
    if len(errors.suspects) > _MOST_ROWS:
        text += f" The first {_MOST_ROWS}; label_errors.csv has all."
    heading = ["Example", "Label", "Rather", *["Split"] * split, "Confidence in the label"]
    words = range(len(heading) - 1)
    table = _table(heading, rows, words, "Suspected label errors") if rows else ""
    return _section("labels", "Suspected label errors", text, table)


def _duplicates(found: Measurement) -> str:
    same = found.duplicates
    rows = "".join(
        f"<tr>{_cell(', '.join(g.names[:4]) + (' …' if g.size > 4 else ''))}<td>{g.size:,}</td>"
        f"{_cell(', '.join(dict.fromkeys(g.classes)))}"
        f"{_cell(', '.join(dict.fromkeys(g.splits))) * bool(found.splits)}</tr>"
        for g in same.groups[:_MOST_ROWS]
    )
    order = "more than one split come first, then those with " if found.splits else ""
    text = (
        f"{count(same.rows, 'row')} in {count(len(same.groups), 'group')}, whose embeddings are the same up to "
        f"rounding. Those {f'in {order}' if order else 'with '}more than one label{'' if order else ' come first'}."
        if same.groups
        else "No two rows have the same embedding."
    )
    if same.leaked:
        text = f"{count(same.leaked, 'row')} of validation and test are in an earlier split too. {text}"
    heading = ["Examples", "Rows", "Classes", *["Splits"] * bool(found.splits)]
    return _section("duplicates", "Duplicates", text, _table(heading, rows, (0, 2, 3)) if rows else "")


def _left_out(found: Measurement) -> str:
    if not found.left_out:
        return ""
    items = "".join(f"<tr>{_cell(line)}</tr>" for line in found.left_out)
    return _section("left-out", "Left out", "Found in the data, and not used.", _table([], items))


def _section(key: str, title: str, text: str, content: str) -> str:
    return f'<section aria-labelledby="{key}">\n<h2 id="{key}">{title}</h2>\n<p>{text}</p>\n{content}\n</section>'


def _table(headings: Sequence[str], rows: str, text: Sequence[int] = (0,), label: str = "") -> str:
    """A table whose columns at the positions `text` hold text; the others hold numbers."""
    label = label or (headings[0] if headings else "Table")
    cells = "".join(
        f'<th scope="col"{_LEFT if k in text else ""}>{heading}</th>' for k, heading in enumerate(headings)
    )
    head = f"<thead><tr>{cells}</tr></thead>" if headings else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table>{head}<tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str, style: str = _TEXT) -> str:
    return f"<td{style}>{_escape(text)}</td>"


def _name_style(names: Sequence[str]) -> str:
    """A column of names: as wide as the longest, or where that is wide, as wide as some of its words."""
    width = min(7.0, 1.2 + 0.55 * max(map(len, names), default=0))
    return _TEXT.replace("7rem", f"{width:.3g}rem")


def _value(value: float) -> str:
    return f"{value}" if math.isfinite(value) else ""


def _escape(text: str) -> str:
    return html.escape(text)
