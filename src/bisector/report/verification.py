"""Verification by head: the table, the ROC picture and the page."""

import html
import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bisector.errors import require
from bisector.files import write_whole
from bisector.metrics.verification import Verification
from bisector.report.colors import PALETTE
from bisector.report.figure import MARGIN, Figure, Json, axis
from bisector.report.names import head_label, head_summary, plot_text, shorten
from bisector.report.sections import plot
from bisector.report.summary import leaders, told_apart
from bisector.training.results import Run

Runs: TypeAlias = Mapping[str, Sequence[Verification]]
"""The verifications of each head, one a seed, by the head as it is on the command line."""

_DASHES = ("solid", "dash", "dot", "dashdot")
_MOST_POINTS = 399
_NAME_WIDTH = 32
_HEADING_WIDTH = 13  # of a column; a longer heading continues on the next line


@dataclass(frozen=True)
class Column:
    """One number of a verification, as tables show it."""

    title: str
    help: str
    value: Callable[[Verification], float]  # 0 to 1
    better: str  # "higher", "lower", or "" where the nearest to what was asked for is best
    small: bool = False  # far below one percent: significant digits count, not decimals
    share: bool = True  # shown in percent

    def cell(self, runs: Sequence[Verification]) -> tuple[float, float]:
        """Mean and sample standard deviation over the runs in which it is a number, in percent if it is a share."""
        scale = 100 if self.share else 1
        known = [scale * value for run in runs if math.isfinite(value := self.value(run))]
        return (
            statistics.fmean(known) if known else math.nan,
            statistics.stdev(known) if len(known) > 1 else math.nan,
        )

    def text(self, value: float) -> str:
        """A mean or a deviation as `cell` gives it; a dash where it is not known."""
        shown = f"{value:.2g}" if self.small else f"{value:.{2 if self.share else 4}f}"
        return shown if math.isfinite(value) else "–"


def verifications(runs: Sequence[Run]) -> dict[str, list[Verification]]:
    """Return what was verified, by head: only trainings with the open-set split were."""
    found: dict[str, list[Verification]] = {}
    for run in runs:
        if run.verification is not None:
            found.setdefault(run.head, []).append(Verification.from_dict(run.verification))
    return found


def write_verification(runs: Sequence[Run], data: str, command: str, folder: Path) -> Path:
    """Write verification.html for trainings with the open-set split; return where it is."""
    page = folder / "verification.html"
    write_verification_page(
        page, verifications(runs), title=f"Classes never trained on: {data}", command=command
    )
    return page


def columns(runs: Runs) -> list[Column]:
    """The columns that these verifications fill: the equal error rate, then two or three a false accept rate."""
    every = [run for head in runs.values() for run in head]
    found = [
        Column(
            "EER %",
            "Equal error rate: as many impostors accepted as genuine pairs refused.",
            lambda run: run.eer,
            "lower",
        )
    ]
    found += [
        Column(
            f"TAR % at FAR {_power(far)}",
            f"Share of the genuine pairs accepted while at most a share of {_power(far)} of the impostors are.",
            lambda run, far=far: run.tar.get(far, math.nan),  # type: ignore[misc]
            "higher",
        )
        for far in sorted({far for run in every for far in run.tar}, reverse=True)
    ]
    for far in sorted({far for run in every for far in run.carried}, reverse=True):
        found += [
            Column(
                f"Threshold for {_power(far)}",
                f"Cosine from which a pair is accepted, chosen for a FAR of {_power(far)} on other classes.",
                lambda run, far=far: run.carried[far].threshold if far in run.carried else math.nan,  # type: ignore[misc]
                "",
                share=False,
            ),
            Column(
                f"FAR % at the threshold for {_power(far)}",
                f"Impostors accepted at the threshold that was chosen for a FAR of {_power(far)} on other classes.",
                lambda run, far=far: run.carried[far].far if far in run.carried else math.nan,  # type: ignore[misc]
                "",
                small=True,
            ),
            Column(
                f"TAR % at the threshold for {_power(far)}",
                f"Genuine pairs accepted at the threshold that was chosen for a FAR of {_power(far)} on other "
                "classes. To be read beside the FAR that came with it.",
                lambda run, far=far: run.carried[far].tar if far in run.carried else math.nan,  # type: ignore[misc]
                "",
            ),
        ]
    return found


def format_verification(runs: Runs) -> str:
    """The table as plain text: heads down the side, percentages, mean ± standard deviation over the seeds.

    A star marks the best mean of a column, if there are several heads; a dash stands where there are
    too few impostor pairs to tell.

    >>> found = Verification(4, 2, 2, 4, eer=0.031, eer_threshold=0.5, tar={0.01: 0.9}, thresholds={0.01: 0.7})
    >>> print(format_verification({"am-softmax": [found]}))
                        TAR % at FAR
                EER %           1e-2
    AM-softmax   3.10          90.00
    <BLANKLINE>
    2 genuine and 4 impostor pairs of 4 embeddings in 2 classes

    Raises:
        ArgumentError: there is no run.
    """
    _require_runs(runs)
    shown = columns(runs)
    rows = [["", *(column.title for column in shown)]]
    for head, verifications in runs.items():
        cells = [
            _plain(column, verifications) + ("*" if head in _best(runs, column) else " " * (len(runs) > 1))
            for column in shown
        ]
        rows.append([shorten(head_label(head), _NAME_WIDTH), *cells])
    headings, *others = rows
    widths = [
        max(min(len(heading), _HEADING_WIDTH), *map(len, cells))
        for heading, *cells in zip(headings, *others, strict=True)
    ]
    wrapped = [textwrap.wrap(heading, width) for heading, width in zip(headings, widths, strict=True)]
    deep = max(map(len, wrapped))
    raised = zip(*([""] * (deep - len(lines)) + lines for lines in wrapped), strict=True)
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in [*map(list, raised), *others]
    ]
    legend = ["; ".join(_facts(runs))]
    legend += ["* best mean of its column"] if len(runs) > 1 else []
    return "\n".join([*lines, "", *legend])


def roc_figure(runs: Runs) -> Figure:
    """The ROC, false accept rate on a logarithmic axis: one curve a head, the mean over its seeds.

    Raises:
        ArgumentError: there is no run.
    """
    _require_runs(runs)
    traces: list[Mapping[str, Json]] = []
    floor = least = 1.0
    for place, (head, verifications) in enumerate(runs.items()):
        fars, tars = _mean_curve(verifications)
        if not fars:
            continue
        floor = min(floor, *(tar for far, tar in zip(fars, tars, strict=True) if far >= 1e-5))
        least = min(least, fars[0])
        label = plot_text(head_label(head), 40)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": label,
                "x": fars,
                "y": [100 * tar for tar in tars],
                "line": {
                    "width": 2,
                    "color": PALETTE[place % len(PALETTE)],
                    "dash": _DASHES[place // len(PALETTE) % len(_DASHES)],
                },
                "hovertemplate": f"{label}<br>FAR %{{x:.2g}}: TAR %{{y:.1f}}%<extra></extra>",
            }
        )
    return Figure(
        key="roc",
        title="True accept rate against false accept rate",
        note="Higher is better. " + _seeds_note(runs),
        description=f"One rising curve for each of {_number(len(traces), 'head')}: "
        + "; ".join(f"{head_label(head)} {_at_words(runs[head])}" for head in runs),
        data=traces,
        layout={
            "xaxis": {
                **axis("False accept rate, logarithmic"),
                "type": "log",
                "range": [math.log10(max(least, 1e-6)) if least < 1 else -4, 0],
                "dtick": 1,
                "exponentformat": "power",
            },
            "yaxis": {**axis("True accept rate, %"), "range": [max(0.0, 100 * floor - 3), 101]},
            "legend": {"orientation": "h", "y": -0.15, "yanchor": "top"},
            "showlegend": True,
            "margin": {**MARGIN, "t": 12},
        },
        height=480 + 22 * math.ceil(len(traces) / 4),
    )


def render_verification_page(runs: Runs, *, title: str, command: str = "") -> str:
    """The page that `write_verification_page` writes."""
    from bisector.report.document import document

    _require_runs(runs)
    figure = roc_figure(runs)
    content = [
        _header(runs, title, command),
        _findings(runs),
        plot(figure),
        _table(runs),
        _explanation(runs),
    ]
    return document(title, content, [figure])


def write_verification_page(path: Path, runs: Runs, *, title: str, command: str = "") -> None:
    """Write the table and the ROC as one HTML file that works offline and from `file://`.

    Args:
        path: of the file.
        runs: the verifications of each head.
        title: of the page, plain text.
        command: what was typed, where there is something to repeat.

    Raises:
        ArgumentError: there is no run.
        MissingExtraError: plotly is not installed.
        OSError: the file cannot be written.
    """
    write_whole(path, render_verification_page(runs, title=title, command=command))


def _mean_curve(verifications: Sequence[Verification]) -> tuple[list[float], list[float]]:
    """At the false accept rates of all seeds, the mean over the seeds of the step functions."""
    drawn = [run for run in verifications if run.curve_far]
    if not drawn:
        return [], []
    # Below the first rate of a seed its curve is not known: the mean begins where all are.
    start = max(run.curve_far[0] for run in drawn)
    fars = sorted({far for run in drawn for far in run.curve_far if far >= start})
    step = math.ceil(len(fars) / _MOST_POINTS)  # each seed can bring its own rates
    fars = fars[::step] + fars[-1:] * bool((len(fars) - 1) % step)
    return fars, [statistics.fmean(_step(run, far) for run in drawn) for far in fars]


def _step(run: Verification, far: float) -> float:
    """The true accept rate of the last point that is not beyond a false accept rate."""
    return next(
        tar for f, tar in zip(reversed(run.curve_far), reversed(run.curve_tar), strict=True) if f <= far
    )


def _best(runs: Runs, column: Column) -> set[str]:
    means = {head: column.cell(found)[0] for head, found in runs.items()}
    known = [mean for mean in means.values() if math.isfinite(mean)]
    if len(runs) < 2 or not column.better or not known:
        return set()
    best = min(known) if column.better == "lower" else max(known)
    return {head for head, mean in means.items() if mean == best}


def _plain(column: Column, verifications: Sequence[Verification]) -> str:
    mean, deviation = column.cell(verifications)
    return column.text(mean) + (f" ± {column.text(deviation)}" if math.isfinite(deviation) else "")


def _facts(runs: Runs) -> list[str]:
    """What was compared with what; a range where the seeds or the heads differ."""
    every = [run for head in runs.values() for run in head]

    def span(key: str) -> str:
        values = [getattr(run, key) for run in every]
        return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"

    facts = [
        f"{span('genuine_pairs')} genuine and {span('impostor_pairs')} impostor pairs of {span('embeddings')} "
        f"embeddings in {span('classes')} classes"
    ]
    seeds = max(len(head) for head in runs.values())
    facts += [f"± standard deviation over {seeds} seeds"] if seeds > 1 else []
    if any(run.resolution for run in every):
        facts.append(f"cosines rounded to {max(run.resolution for run in every):.1g}")
    return facts


def _header(runs: Runs, title: str, command: str) -> str:
    typed = f"<pre><code>{html.escape(command)}</code></pre>" if command else ""
    return (
        f'<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(" · ".join(_facts(runs)))}</p>\n{typed}'
    )


def _findings(runs: Runs) -> str:
    items = []
    for column in [c for c in columns(runs) if c.better][:4]:
        values = {
            head: {place: v for place, run in enumerate(found) if math.isfinite(v := column.value(run))}
            for head, found in runs.items()
        }
        best = leaders(values, column.better)
        if best:
            value = column.cell(runs[best[0]])[0]
            names = html.escape(told_apart(best))
            title = html.escape(column.title.replace(" %", ""))
            order = {"lower": "Lowest ", "higher": "Highest "}[column.better] if len(runs) > 1 else ""
            items.append(
                f'<div><dt>{order}{title}</dt><dd class="value">{value:.2f} <span class="spread">%</span></dd>'
                f"<dd>{names}</dd></div>"
            )
    return f'<dl class="findings">{"".join(items)}</dl>'


def _table(runs: Runs) -> str:
    shown = columns(runs)
    headings = "".join(
        f'<th scope="col" data-first="{"ascending" if column.better == "lower" else "descending"}">'
        f'<button type="button" title="{html.escape(column.help)}">{html.escape(column.title)}</button></th>'
        for column in shown
    )
    best = " The best mean of each column is shaded; click a heading to sort by it." * (len(runs) > 1)
    about = "".join(
        f"<dt>{html.escape(head_label(head))}</dt><dd>{html.escape(summary)}</dd>"
        for head in runs
        if (summary := head_summary(head))
    )
    terms = "".join(f"<dt>{html.escape(c.title)}</dt><dd>{html.escape(c.help)}</dd>" for c in shown)
    heads = f'<details><summary>What the heads are</summary><dl class="terms">{about}</dl></details>'
    return f"""<section aria-labelledby="results">
<h2 id="results">Results</h2>
<p>{_seeds_note(runs)}{best}</p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="results">
<table id="summary">
<thead><tr><th scope="col" data-first="ascending" data-text><button type="button">Head</button></th>{headings}\
</tr></thead>
<tbody>
{"".join(_row(head, runs, shown) for head in runs)}</tbody>
</table>
</div>
{heads if about else ""}
<details><summary>What the columns mean</summary><dl class="terms">{terms}</dl></details>
</section>"""


def _row(head: str, runs: Runs, shown: Sequence[Column]) -> str:
    label = html.escape(head_label(head))
    cells = [f'<tr><th scope="row" data-value="{label}">{label}</th>']
    for column in shown:
        mean, deviation = column.cell(runs[head])
        best = ' class="best"' if head in _best(runs, column) else ""
        spread = (
            f' <span class="spread">± {column.text(deviation)}</span>' if math.isfinite(deviation) else ""
        )
        value = mean if math.isfinite(mean) else ""
        cells.append(f'<td{best} data-value="{value}">{column.text(mean)}{spread}</td>')
    return "".join(cells) + "</tr>\n"


def _explanation(runs: Runs) -> str:
    every = [run for head in runs.values() for run in head]
    parts = [
        "A pair of embeddings is accepted when its cosine is at least a threshold. Genuine pairs are of one class, "
        "impostor pairs of two. TAR is the share of the genuine pairs accepted, FAR that of the impostors."
    ]
    if any(math.isnan(tar) for run in every for tar in run.tar.values()):
        parts.append("A dash stands where there are fewer than 1 / FAR impostor pairs: it cannot be told.")
    if any(run.carried for run in every):
        parts.append(
            "The columns “at the threshold” show what a threshold chosen on other classes does on these: that is "
            "what a user would get. The others choose their threshold on the very classes they report."
        )
    else:
        parts.append(
            "Each threshold was chosen on the very classes it is reported on; on new classes the FAR will differ."
        )
    parts.append("Pairs share embeddings, so the rates scatter more than the number of pairs suggests.")
    return f"""<section aria-labelledby="reading">
<h2 id="reading">How to read it</h2>
<p>{html.escape(" ".join(parts))}</p>
</section>"""


def _seeds_note(runs: Runs) -> str:
    seeds = max(len(head) for head in runs.values())
    return f"Mean over {seeds} seeds." if seeds > 1 else "One seed: how much is chance cannot be told."


def _at_words(verifications: Sequence[Verification]) -> str:
    known = [run.eer for run in verifications if math.isfinite(run.eer)]
    return f"equal error rate {100 * statistics.fmean(known):.2f}%" if known else "without a curve"


def _power(far: float) -> str:
    """A rate as the field writes it.

    >>> _power(0.001), _power(0.05)
    ('1e-3', '0.05')
    """
    exponent = round(math.log10(far))
    return f"1e{exponent}" if far == float(f"1e{exponent}") and exponent < 0 else f"{far:g}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _require_runs(runs: Runs) -> None:
    require(
        bool(runs) and all(runs.values()), "runs", "a head without a run", "at least one run of each head"
    )
