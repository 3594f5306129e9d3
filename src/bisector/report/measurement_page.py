"""A measurement as one self-contained HTML page. Whatever comes from outside is escaped here."""

import math

from bisector.measurement.classes import hardest
from bisector.measurement.command import column_options, command_line
from bisector.measurement.confusion import Pair
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import accuracy_of
from bisector.report.document import document
from bisector.report.measurement_classes import class_section
from bisector.report.measurement_numbers import count, number, percent, significant
from bisector.report.measurement_parts import cell, escape, name_style, section, table
from bisector.report.measurement_plots import scatter_plots
from bisector.report.measurement_scores import score_section
from bisector.report.measurement_text import (
    TRIAL_HEADINGS,
    mean_share,
    not_looked_for,
    taken,
    trial_rows,
    trials_told,
    verified_pairs,
)

_MOST_ROWS = 50
_HOLDS = {True: "yes", False: "no", None: "not known"}


def render_measurement(measurement: Measurement) -> str:
    """The page of a measurement; it works offline, loads nothing and runs no script but its own."""
    title = f"What the embeddings of {measurement.data or measurement.file} say"
    figures = scatter_plots(measurement)
    content = [
        _header(measurement, title),
        _findings(measurement),
        _next(measurement),
        class_section(measurement),
        score_section(measurement, figures),
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
        *([f"model {escape(found.model)}"] if found.model else []),
    ]
    command = f"<pre><code>{escape(found.command)}</code></pre>" if found.command else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in found.notes)
    return f'<h1>{escape(title)}</h1>\n<p class="lead">{" · ".join(facts)}</p>\n{command}{notes}'


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
    items += _bias(found) + _suspicions(found)
    cells = (
        f'<div><dt>{term}</dt><dd class="value">{value}</dd><dd>{escape(note)}</dd></div>'
        for term, value, note in items
    )
    return f'<dl class="findings">{"".join(cells)}</dl>'


def _bias(found: Measurement) -> list[tuple[str, str, str]]:
    own = accuracy_of(found.scores)
    if own is None or own.classes < 2 or math.isnan(own.bias):
        return []
    return [("Bias", number(own.bias), "variance of accuracy over the classes, points squared")]


def _suspicions(found: Measurement) -> list[tuple[str, str, str]]:
    errors, same = found.label_errors, found.duplicates
    if errors is None or same is None:
        return []
    items = []
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
    return items


def _next(found: Measurement) -> str:
    step = found.step
    lead = f"<p>{escape(step.lead)}</p>" if step.lead else ""
    command = f"{lead}<pre><code>{escape(step.command)}</code></pre>" if step.command else ""
    rules = "".join(
        f"<tr>{cell(s.title)}<td>{_HOLDS[s.holds]}</td>{cell(s.reason)}</tr>" for s in found.steps
    )
    return section(
        "next",
        f"Next step: {escape(step.title)}",
        escape(step.reason),
        command
        + _trials(found)
        + "<details><summary>How this was chosen</summary><p>The rules are asked in this order; the first that "
        "holds is recommended.</p>" + table(["Step", "Holds", "Found"], rules, (0, 2)) + "</details>",
    )


def _trials(found: Measurement) -> str:
    trials = found.trials
    if trials is None or not trials.tried:
        return ""  # the steps say why
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{one}</td>" for one in cells)}</tr>'
        for name, *cells in trial_rows(trials)
    )
    headings = ["Adjustment", *(heading[:1].upper() + heading[1:] for heading in TRIAL_HEADINGS)]
    words = f"<h3>Adjustments tried on {escape(trials.on)}</h3><p>{escape(trials_told(trials))}</p>"
    return words + table(headings, rows)


def _pairs(found: Measurement) -> str:
    parts = []
    unknown = any(not pair.both_tested for pair in found.confused)
    if found.confused:
        style = name_style([name for pair in found.confused for name in (pair.first, pair.second)])
        rows = "".join(_confused_row(pair, style) for pair in found.confused)
        parts.append(
            table(
                ["A", "B", "A taken for B", "B taken for A", "Mean share, %"],
                rows,
                (0, 1),
                "Confused classes",
            )
        )
    style = name_style([name for pair in found.nearest for name in (pair.first, pair.second)])
    near = "".join(
        f"<tr>{cell(p.first, style)}{cell(p.second, style)}<td>{number(p.degrees)}</td></tr>"
        for p in found.nearest
    )
    nearest = table(["A", "B", "Degrees"], near, (0, 1), "Nearest classes") if near else ""
    if parts and nearest:
        nearest = f"<details><summary>The nearest classes by angle</summary>{nearest}</details>"
    text = (
        "Rows of one class that were taken for the other. The share is a mean over the two classes, so that a rare "
        "one counts as much; pairs with a single row come last."
        + (" Where one has no tested row, the mean is at least what is given." if unknown else "")
        if found.confused
        else "By the angle between the classes' mean directions."
    )
    return section("pairs", "Pairs of classes", text, "".join([*parts, nearest])) if parts or nearest else ""


def _confused_row(pair: Pair, style: str) -> str:
    return (
        f"<tr>{cell(pair.first, style)}{cell(pair.second, style)}"
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
    points = table(["Operating point", "FAR, %", "TAR, %", "Threshold"], rows)
    return section("verification", "Classes never trained on", text, points)


def _labels(found: Measurement) -> str:
    errors = found.label_errors
    if errors is None:
        return section("labels", "Suspected label errors and duplicates", not_looked_for(found), _look(found))
    if not errors.judged:
        return ""
    split = bool(found.splits)
    rows = "".join(
        f"<tr>{cell(s.name)}{cell(s.label)}{cell(s.suggested)}{cell(s.split) * split}"
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
    suspects = table(heading, rows, words, "Suspected label errors") if rows else ""
    return section("labels", "Suspected label errors", text, suspects)


def _look(found: Measurement) -> str:
    options = {**column_options(found.command), "engine": "memory"}
    command = command_line("bisector measure", found.file, options=options)
    return f"<pre><code>{escape(command)}</code></pre>"


def _duplicates(found: Measurement) -> str:
    same = found.duplicates
    if same is None:
        return ""
    rows = "".join(
        f"<tr>{cell(', '.join(g.names[:4]) + (' …' if g.size > 4 else ''))}<td>{g.size:,}</td>"
        f"{cell(', '.join(dict.fromkeys(g.classes)))}"
        f"{cell(', '.join(dict.fromkeys(g.splits))) * bool(found.splits)}</tr>"
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
    return section("duplicates", "Duplicates", text, table(heading, rows, (0, 2, 3)) if rows else "")


def _left_out(found: Measurement) -> str:
    if not found.left_out:
        return ""
    items = "".join(f"<tr>{cell(line)}</tr>" for line in found.left_out)
    return section("left-out", "Left out", "Found in the data, and not used.", table([], items))
