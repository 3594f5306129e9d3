"""The parts of the page as HTML, from top to bottom. Whatever comes from outside is escaped here."""

import html
import math
from collections.abc import Sequence

from bisector.metrics.summary import METRICS, MetricInfo
from bisector.report.colors import head_color
from bisector.report.figure import Figure
from bisector.report.table import SummaryRow, best_heads, format_value
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
    """The three numbers that say most about fairness to every class, and the head that is best at each."""
    items = []
    for title, key in (
        ("Highest balanced accuracy", "balanced_accuracy"),
        ("Best worst class", "worst_class"),
        ("Lowest bias", "bias"),
    ):
        best = [row for row in rows if row.head in best_heads(rows, _INFO[key])]
        if best:
            value = f"{_value(_INFO[key], best[0])} {_unit(_INFO[key])}"
            heads = ", ".join(_escape(row.label) for row in best)
            items.append(f'<div><dt>{title}</dt><dd class="value">{value}</dd><dd>{heads}</dd></div>')
    return f'<dl class="findings">{"".join(items)}</dl>'


def results(comparison: Comparison, rows: Sequence[SummaryRow]) -> str:
    """The table of all metrics, sortable, with an explanation of each."""
    headers = "".join(
        f'<th scope="col" data-first="{"ascending" if info.better == "lower" else "descending"}">'
        f'<button type="button" title="{_escape(f"{info.help} {_DIRECTION[info.better]}")}">'
        f"{_escape(info.label)}{_heading_unit(info)}</button></th>"
        for info in METRICS
    )
    terms = "".join(
        f"<dt>{_escape(info.label)}{_heading_unit(info)}</dt>"
        f"<dd>{_escape(info.help)} {_DIRECTION[info.better]}</dd>"
        for info in METRICS
    )
    return f"""<section aria-labelledby="results">
<h2 id="results">Results</h2>
<p>{_spread_note(rows)} The best mean of each column is shaded; click a heading to sort by it.</p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="results">
<table id="summary">
<thead><tr><th scope="col" data-first="ascending" data-text><button type="button">Head</button></th>\
{headers}</tr></thead>
<tbody>
{"".join(_row(comparison, row, rows, METRICS) for row in rows)}</tbody>
</table>
</div>
<details><summary>What the columns mean</summary><dl class="terms">{terms}</dl></details>
</section>"""


def class_section(comparison: Comparison, figure: Figure) -> str:
    """Accuracy class by class."""
    reshuffled = len({tuple(run.class_count) for run in comparison.runs if run.class_count}) > 1
    note = " Each seed makes other classes rare, so a column is a rank by count, not one class." * reshuffled
    return _section(
        "class-by-class",
        "Class by class",
        f"Mean accuracy over the seeds, from the classes with most training instances to those with fewest."
        f"{note}",
        plot(figure),
    )


def amount_section(comparison: Comparison, rows: Sequence[SummaryRow], figure: Figure) -> str:
    """Amounts against accuracy, and what is left of the correlation when the count is held fixed."""
    infos = [_INFO["r_amount_accuracy"], _INFO["r_amount_accuracy_given_count"]]
    table = f"""<div><table>
<thead><tr><th scope="col">Correlation</th><th scope="col">amount, accuracy</th>\
<th scope="col">count held fixed</th></tr></thead>
<tbody>
{"".join(_row(comparison, row, rows, infos) for row in rows)}</tbody>
</table>
<p class="note">Held fixed is the logarithm of the training count: a class with few training instances can \
be hard for that alone.</p></div>"""
    return _section(
        "amounts",
        "Does the information amount say which classes are hard?",
        "The information amount of a class is the volume of its training embeddings in bits. Each point is "
        "one class of one head and seed. Click a head in the legend to hide it, double-click to see it alone.",
        f'<div class="beside">{plot(figure)}{table}</div>',
    )


def margin_section(figures: Sequence[Figure]) -> str:
    """The margin matrices."""
    return _section(
        "margins",
        "Margins between pairs of classes",
        "By how many radians the boundary between a true class and a competitor is moved in training; "
        "classes run from the largest information amount to the smallest. First seed; every square has its "
        "own scale.",
        _grid(figures),
    )


def history_section(figures: Sequence[Figure]) -> str:
    """The amounts over training."""
    return _section(
        "history",
        "Information amounts while training",
        "The amounts that guided the margins, as measured at each refresh. First seed.",
        _grid(figures),
    )


def plane_section(figures: Sequence[Figure]) -> str:
    """The two-dimensional embeddings."""
    return _section(
        "planes",
        "What the embeddings look like",
        "Each head trained once more with embeddings of two dimensions. Points are test instances, coloured by "
        "their true class; the ring of dots outside shows their directions alone. Lines from the centre are the "
        "weight vectors (drawn for up to 30 classes). A head that looks at angles decides by direction: dotted "
        "lines are its boundaries, the bisectors of neighbouring weight vectors, and the rim has the colour of "
        "the predicted class. A head with a bias divides the plane into regions. The longest 2% of the "
        "embeddings can lie outside.",
        _grid(figures),
    )


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
        f"<table><tbody>{rows}</tbody></table>",
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
    return f"<figure><figcaption>{_escape(figure.title)}</figcaption>{place}</figure>"


def _section(key: str, title: str, text: str, content: str) -> str:
    return f"""<section aria-labelledby="{key}">
<h2 id="{key}">{title}</h2>
<p>{text}</p>
{content}
</section>"""


def _grid(figures: Sequence[Figure]) -> str:
    columns = 3 if len(figures) % 3 == 0 else 2
    return f'<div class="grid" style="--columns: {columns}">{"".join(map(plot, figures))}</div>'


def _row(
    comparison: Comparison, row: SummaryRow, rows: Sequence[SummaryRow], infos: Sequence[MetricInfo]
) -> str:
    label = _escape(row.label)
    cells = [
        f'<tr><th scope="row" data-value="{label}">'
        f'<span class="swatch" style="background: {head_color(comparison, row.head)}"></span>{label}</th>'
    ]
    for info in infos:
        mean = row.mean[info.key]
        best = ' class="best"' if row.head in best_heads(rows, info) else ""
        cells.append(f'<td{best} data-value="{mean if math.isfinite(mean) else ""}">{_value(info, row)}</td>')
    return "".join(cells) + "</tr>\n"


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
