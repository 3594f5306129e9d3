"""The parts of the page as HTML, from top to bottom. Whatever comes from outside is escaped here."""

import html
import math
from collections.abc import Sequence

from bisector.metrics.summary import METRICS, MetricInfo
from bisector.report.classes import MOST_NAMES, reshuffled
from bisector.report.figure import Figure
from bisector.report.guidance import without_margins
from bisector.report.names import head_summary
from bisector.report.readings import amount_answer, size_notes
from bisector.report.summary import (
    SummaryRow,
    best_heads,
    format_value,
    known_metrics,
    leaders,
    told_apart,
)
from bisector.training.results import Comparison

_INFO = {info.key: info for info in METRICS}
_DIRECTION = {"higher": "Higher is better.", "lower": "Lower is better.", "": "Neither end is better."}


def header(comparison: Comparison, title: str) -> str:
    """What was compared, on which data, and by which command."""
    seeds = len({run.seed for run in comparison.runs})
    facts = [
        f"{_escape(comparison.data)} made long-tailed, imbalance {comparison.imbalance:g}"
        if comparison.imbalance > 1
        else _escape(comparison.data),
        f"{len(comparison.class_names)} classes with {max(comparison.train_counts)} to "
        f"{min(comparison.train_counts)} training instances",
        f"{sum(comparison.test_counts)} test instances",
        _number(seeds, "seed"),
    ]
    command = f"<pre><code>{_escape(comparison.command)}</code></pre>" if comparison.command else ""
    return f'<h1>{_escape(title)}</h1>\n<p class="lead">{" · ".join(facts)}</p>\n{command}'


def findings(rows: Sequence[SummaryRow]) -> str:
    """The three numbers that say most about fairness to every class, and what can be told of who is best."""
    items = []
    for title, key in (
        ("Highest balanced accuracy", "balanced_accuracy"),
        ("Best worst class", "worst_class"),
        ("Best on the rarest classes", "few"),  # not the lowest bias: a head that is bad at all has that too
    ):
        info = _INFO[key]
        best = leaders({row.head: row.values[key] for row in rows}, info.better)
        if best:
            shown = next(row for row in rows if row.head == best[0])
            value = f"{_value(info, shown)} {_unit(info)}"
            alone = len(rows) == 1
            heads = "" if alone else f"<dd>{_escape(told_apart(best))}</dd>"
            term = info.label if alone else title
            items.append(f'<div><dt>{term}</dt><dd class="value">{value}</dd>{heads}</div>')
    return f'<dl class="findings">{"".join(items)}</dl>'


def results(rows: Sequence[SummaryRow]) -> str:
    """The table of all metrics, sortable, with a line on each head and each metric."""
    infos = known_metrics(rows)
    headers = "".join(
        f'<th scope="col" data-first="{"ascending" if info.better == "lower" else "descending"}">'
        f'<button type="button" title="{_help(info)}">'
        f"{_escape(info.label)}{_heading_unit(info)}</button></th>"
        for info in infos
    )
    terms = "".join(
        f"<dt>{_escape(info.label)}{_heading_unit(info)}</dt><dd>{_help(info)}</dd>" for info in infos
    )
    about = "".join(
        f"<dt>{_escape(row.label)}</dt><dd>{_escape(summary)}</dd>"
        for row in rows
        if (summary := head_summary(row.head))
    )
    heads = f"<details open><summary>What the heads are</summary>{_terms(about)}</details>\n" if about else ""
    best = " The best mean of each column is shaded; click a heading to sort by it." * (len(rows) > 1)
    return f"""<section aria-labelledby="results">
<h2 id="results">Results</h2>
<p>{_spread_note(rows)}{best}</p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="results">
<table id="summary">
<thead><tr><th scope="col" data-first="ascending" data-text><button type="button">Head</button></th>\
{headers}</tr></thead>
<tbody>
{"".join(_row(row, rows, infos) for row in rows)}</tbody>
</table>
</div>
{heads}<details><summary>What the columns mean</summary>{_terms(terms)}</details>
</section>"""


def class_section(comparison: Comparison, figure: Figure) -> str:
    """Accuracy class by class."""
    note = (
        " The seeds differ in which classes are rare, so a column is a rank by count, not one class."
        if reshuffled(comparison)
        else ""
    )
    return _section(
        "class-by-class",
        "Class by class",
        "Mean accuracy over the seeds, from the classes with most training instances to those with fewest."
        f"{note}",
        plot(figure),
    )


def amount_section(comparison: Comparison, rows: Sequence[SummaryRow], figures: Sequence[Figure]) -> str:
    """Amounts against accuracy, and what is left of the correlation when the count is held fixed."""
    answer = amount_answer(rows, len(comparison.class_names))
    return _section(
        "amounts",
        "Does the information amount say which classes are hard?",
        "The information amount of a class is the volume of its training embeddings in bits. Each point is "
        "one class in one seed, in the colour of the class; r is the correlation of amount and accuracy over "
        "the classes. It is also given with the logarithm of the training count held fixed: a class with few "
        "training instances can be hard for that alone. Each head has its own scale of amounts.",
        (f"<p>{_escape(answer)}</p>" if answer else "") + _grid(figures, small=True),
    )


def margin_section(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """The margin matrices, and what the two directions mean."""
    directions = (
        " Relax moves a competitor away: in training, samples of the true class are accepted up to the margin "
        "beyond the boundary. Press moves it nearer: they must clear the boundary by the margin. When the "
        "trained network is used, there are no margins."
        if any(run.direction for run in comparison.runs if run.margins)
        else ""
    )
    return _section(
        "margins",
        "Margins between pairs of classes",
        "By how many radians a margin moves the boundary between a true class and a competitor in training."
        f"{directions} In each square the classes run from those with the largest margins to those with the "
        "smallest; all squares have one colour scale, on which small margins are spread. First seed."
        + "".join(
            f" {_escape(label)}: no margin between any two classes." for label in without_margins(comparison)
        ),
        _grid(figures),
    )


def history_section(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """The amounts over training."""
    notes = "".join(f'<p class="note">{_escape(note)}</p>' for note in size_notes(comparison))
    return _section(
        "history",
        "Information amounts while training",
        "The amounts that guided the margins, as measured at each refresh. First seed.",
        _grid(figures) + notes,
    )


def plane_section(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """The two-dimensional embeddings."""
    epochs, long = (comparison.recipe.get(key) for key in ("epochs", "plane_epochs"))
    few = len(comparison.class_names) <= MOST_NAMES
    biased = [plane.bias is not None for plane in comparison.planes]
    parts = [
        "Each head trained once more with embeddings of two dimensions"
        + (f", for {long} epochs instead of {epochs}." if epochs and long else "."),
        "Points are test instances, coloured by their true class; the faint ring of dots around them shows "
        "their directions alone.",
        "Lines from the centre are the weight vectors."
        if few
        else f"Weight vectors and boundaries are left out, as there are more than {MOST_NAMES} classes.",
        "A head that looks at angles decides by direction: "
        + ("dashed lines are its boundaries, " if few else "its boundaries are ")
        + "the bisectors of neighbouring weight vectors, and the rim has the colour of the predicted class."
        if not all(biased)
        else "",
        "A head of inner products divides the plane into regions, in the colour of the predicted class."
        if any(biased)
        else "",
        "The thin circle holds 98% of the embeddings; the longest can lie outside the picture.",
    ]
    return _section("planes", "What the embeddings look like", " ".join(filter(None, parts)), _grid(figures))


def recipe(comparison: Comparison) -> str:
    """How all heads were trained."""
    rows = "".join(
        f'<tr><th scope="row">{_escape(key.replace("_", " "))}</th><td>{_escape(str(value))}</td></tr>'
        for key, value in comparison.recipe.items()
    )
    return _section(
        "recipe",
        "How it was trained",
        "The same for every head: the split, the first weights of the network and the order of the batches "
        "depend on the seed alone.",
        f"<table><tbody>{rows}</tbody></table>{_left_out(comparison)}",
    )


def _left_out(comparison: Comparison) -> str:
    """What of the data could not be used."""
    lines = "".join(f"<li>{_escape(line)}</li>" for line in comparison.left_out)
    count = len(comparison.left_out)
    return (
        f"<details><summary>Left out of the data: {count}</summary><ul>{lines}</ul></details>"
        if lines
        else ""
    )


def plot(figure: Figure) -> str:
    """The place of a figure, with its title and what it shows in words."""
    shape = (
        'class="plot square"' if figure.height is None else f'class="plot" style="height: {figure.height}px"'
    )
    name = _escape(figure.description)
    place = f'<div id="{figure.key}" {shape} role="img" aria-label="{name}"></div>'
    if figure.wide:
        place = f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{place}</div>'
    note = f'<span class="note">{_escape(figure.note)}</span>' if figure.note else ""
    return f"<figure><figcaption>{_escape(figure.title)}{note}</figcaption>{place}</figure>"


def _section(key: str, title: str, text: str, content: str) -> str:
    return f"""<section aria-labelledby="{key}">
<h2 id="{key}">{title}</h2>
<p>{text}</p>
{content}
</section>"""


def _grid(figures: Sequence[Figure], *, small: bool = False) -> str:
    columns = 3 if len(figures) % 3 == 0 else 2
    style = 'class="grid small"' if small else f'class="grid" style="--columns: {columns}"'
    return f"<div {style}>{''.join(map(plot, figures))}</div>"


def _row(row: SummaryRow, rows: Sequence[SummaryRow], infos: Sequence[MetricInfo]) -> str:
    label = _escape(row.label)
    cells = [f'<tr><th scope="row" data-value="{label}">{label}</th>']
    for info in infos:
        mean = row.mean[info.key]
        best = ' class="best"' if row.head in best_heads(rows, info) else ""
        cells.append(f'<td{best} data-value="{mean if math.isfinite(mean) else ""}">{_value(info, row)}</td>')
    return "".join(cells) + "</tr>\n"


def _terms(pairs: str) -> str:
    return f'<dl class="terms">{pairs}</dl>'


def _help(info: MetricInfo) -> str:
    return _escape(f"{info.help} {_DIRECTION[info.better]}")


def _value(info: MetricInfo, row: SummaryRow) -> str:
    mean, deviation = row.mean[info.key], row.deviation[info.key]
    spread = f' <span class="spread">± {format_value(info, deviation)}</span>'
    return format_value(info, mean).replace("-", "−") + spread * math.isfinite(deviation)


def _unit(info: MetricInfo) -> str:
    return f'<span class="spread">{_escape(info.unit)}</span>' if info.unit else ""


def _heading_unit(info: MetricInfo) -> str:
    arrow = {"higher": "↑", "lower": "↓", "": ""}[info.better]
    note = f"{_escape(info.unit)} {arrow}".strip()
    return f' <span class="unit">{note}</span>' if note else ""


def _spread_note(rows: Sequence[SummaryRow]) -> str:
    runs = max((row.runs for row in rows), default=0)
    if runs > 1:
        return (
            f"Mean ± standard deviation over {runs} seeds: a difference that is not clearly larger than the "
            "deviations may be chance."
        )
    return "One seed: how much chance there is in these numbers cannot be told."


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _escape(text: str) -> str:
    return html.escape(text)
