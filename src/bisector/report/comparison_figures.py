"""The figures of a comparison that are of its classes: their counts, their accuracies, the margins between them."""

import math
import statistics
from collections.abc import Sequence

from bisector.report.parts import FAINT, INK, MARGIN, WARM, Figure, Json, class_color, heatmap
from bisector.report.words import head_label, plot_text, short_names
from bisector.training.results import Comparison, Run

MOST_NAMES = 30
"""More class names than this cannot be read on an axis."""

_MOST_ROWS = 120  # more rows of a square cannot be told apart
_SMALL = 0.02  # share of the largest margin that has the middle colour: else small margins are a blank square
_MEANING = {
    "relax": "relax: competitors are moved away",
    "press": "press: competitors are moved nearer, samples must clear more",
}

Matrix = Sequence[Sequence[float]]


def by_count(counts: Sequence[float]) -> list[int]:
    """The classes from the largest number to the smallest; equal ones by index, NaN last.

    >>> by_count([5, 90, float("nan"), 5])
    [1, 0, 3, 2]
    """
    return sorted(range(len(counts)), key=lambda c: math.inf if math.isnan(counts[c]) else -counts[c])


def counts_of(run: Run, comparison: Comparison) -> Sequence[int]:
    """The training counts of a run; those of the comparison where the run does not say."""
    return run.class_count or comparison.train_counts


def reshuffled(comparison: Comparison) -> bool:
    """Whether the runs differ in which classes are common: then a rank by count is not one class."""
    return len({tuple(by_count(counts_of(run, comparison))) for run in comparison.runs}) > 1


def first_runs(comparison: Comparison) -> list[Run]:
    """The first run of each head."""
    return [next(run for run in comparison.runs if run.head == head) for head in comparison.heads]


def class_name(comparison: Comparison, label: int) -> str:
    """The name of a class, safe in any text of a figure."""
    return plot_text(comparison.class_names[label])


def brief_names(comparison: Comparison, labels: Sequence[int], limit: int) -> list[str]:
    """Names of classes in at most `limit` letters that tell them apart, safe in any text of a figure."""
    return [plot_text(name) for name in short_names([comparison.class_names[c] for c in labels], limit)]


def class_axis(names: Sequence[str], title: str = "") -> dict[str, Json]:
    """An axis with one position a class. The positions are numbers: two classes may have one name."""
    return {
        "title": {"text": title, "standoff": 8},
        "tickvals": list(range(len(names))) if len(names) <= MOST_NAMES else [],
        "ticktext": names,
        "tickfont": {"size": 11},
        "autotickangles": [0, -45, -90],
        "showgrid": False,
        "zeroline": False,
    }


def _profile(comparison: Comparison) -> list[int]:
    """The training counts from the commonest class to the rarest, the mean of the runs at each rank."""
    ranked = [sorted(counts_of(run, comparison), reverse=True) for run in comparison.runs]
    return [round(statistics.fmean(counts)) for counts in zip(*ranked, strict=True)]


def train_counts(comparison: Comparison) -> Figure:
    """Training instances per class, as bars from the commonest class to the rarest.

    Where the seeds make different classes rare, a bar is a rank by count, without a name and a colour.
    """
    counts = _profile(comparison)
    order = by_count(counts_of(comparison.runs[0], comparison))
    ranked, few = reshuffled(comparison), len(order) <= MOST_NAMES
    bars: dict[str, Json] = {
        "type": "bar",
        "y": counts,
        "text": counts if few else [],
        "textposition": "outside",
        "textangle": 0,
        "constraintext": "none",
        "cliponaxis": False,
        "hovertext": [f"rank {k + 1}" if ranked else class_name(comparison, c) for k, c in enumerate(order)],
        "hovertemplate": "%{hovertext}: %{y}<extra></extra>",
        "marker": {"color": FAINT, "opacity": 0.6} if ranked else {"color": [class_color(c) for c in order]},
    }
    across = class_axis(brief_names(comparison, order, 10))
    return Figure(
        "train-counts",
        title="Training instances per class, the commonest first",
        note="Which classes are common and which are rare differs between the seeds." if ranked else "",
        description=f"Bars from {counts[0]} training instances in the commonest class "
        f"to {counts[-1]} in the rarest.",
        data=[bars],
        layout={
            "xaxis": {**across, "autotickangles": [0, -90], "visible": not ranked},
            "yaxis": {"visible": False},
            "bargap": 0.5,
            "margin": {**MARGIN, "t": 20},
        },
        height=110 if ranked else 140,
        wide=not few or (not ranked and max(map(len, comparison.class_names)) > 4),
    )


def class_accuracy(comparison: Comparison) -> Figure:
    """Accuracy of each class by head, averaged over the seeds, from the commonest class to the rarest.

    Where the seeds make different classes rare, a column is a rank by count and not one class.
    """

    def mean(accuracies: Sequence[float]) -> float:
        known = [100 * share for share in accuracies if math.isfinite(share)]
        return statistics.fmean(known) if known else math.nan

    ranked = {
        head: [
            [run.class_accuracy[c] for c in by_count(counts_of(run, comparison))]
            for run in comparison.runs
            if run.head == head
        ]
        for head in comparison.heads
    }
    percent = {head: list(map(mean, zip(*runs, strict=True))) for head, runs in ranked.items()}
    names = [f"{count}" for count in _profile(comparison)]
    hover = [f"{count} training instances" for count in names]
    few, title = len(names) <= MOST_NAMES, "Training instances"
    if not reshuffled(comparison):
        title, first = "Classes, the commonest first", by_count(counts_of(comparison.runs[0], comparison))
        names = brief_names(comparison, first, 12)
        hover = [f"{class_name(comparison, c)}<br>{text}" for c, text in zip(first, hover, strict=True)]
    matrix = heatmap(
        list(percent.values()),
        gap=1,
        customdata=[hover] * len(percent),
        hovertext=[[plot_text(head_label(head))] * len(names) for head in percent],
        hovertemplate="%{hovertext}<br>%{customdata}<br>%{z:.1f} %<extra></extra>",
        texttemplate="%{z:.0f}" if few else "",
        textfont={"color": INK},
        zmin=min(50.0, *(10 * (p // 10) for row in percent.values() for p in row)),
        zmax=100,
        colorscale=[[0, "<--low>"], [0.5, "<--middle>"], [1, "<--high>"]],  # one hue: only lightness counts
        showscale=not few,
    )
    heads = class_axis([plot_text(head_label(head), 36) for head in percent])
    return Figure(
        "class-accuracy",
        title="Accuracy of each class, %",
        description="A row of accuracies for each head, from the class with most training instances "
        "to the one with fewest.",
        data=[matrix],
        layout={"xaxis": class_axis(names, title), "yaxis": {**heads, "autorange": "reversed"}},
        height=70 + 30 * len(percent),
        wide=True,
    )


def margins(comparison: Comparison) -> list[Figure]:
    """The margins of each head that has any, in its first run, all on one colour scale."""
    squares = [(run, run.margins) for run in first_runs(comparison) if run.margins and _largest(run.margins)]
    top = max((_largest(margins) for _, margins in squares), default=0.0)
    return [
        _square(comparison, run, margins, f"margins-{i}", top) for i, (run, margins) in enumerate(squares)
    ]


def without_margins(comparison: Comparison) -> list[str]:
    """The labels of the heads whose margins were all 0 in their first run: there is nothing to draw."""
    return [
        head_label(run.head) for run in first_runs(comparison) if run.margins and not _largest(run.margins)
    ]


def _square(comparison: Comparison, run: Run, margins: Matrix, key: str, top: float) -> Figure:
    """The classes run from the largest margins to the smallest: what that means differs between heads."""
    # What a class brings as the true class less what is brought against it.
    strength = [
        math.fsum(own) - math.fsum(other)
        for own, other in zip(margins, zip(*margins, strict=True), strict=True)
    ]
    order = by_count(strength)
    order = order[:: math.ceil(len(order) / _MOST_ROWS)]
    names = brief_names(comparison, order, 12)
    whole = {c: class_name(comparison, c) for c in order}
    label, extent = head_label(run.head), f"up to {_largest(margins):.2g} rad"
    # What relaxes has another hue than what presses: it means the opposite.
    middle, high = ("<--warmmiddle>", WARM) if run.direction == "relax" else ("<--middle>", "<--high>")
    square = heatmap(
        [[margins[true][other] for other in order] for true in order],
        gap=1 if len(order) <= MOST_NAMES else 0,
        customdata=[[[whole[true], whole[other]] for other in order] for true in order],
        hovertemplate="true %{customdata[0]}<br>competitor %{customdata[1]}<br>%{z:.3g} rad<extra></extra>",
        zmin=0,
        zmax=top,
        colorscale=[[0, "<--low>"], [_SMALL, middle], [1, high]],
        colorbar={"thickness": 8, "outlinewidth": 0, "nticks": 4},
    )
    return Figure(
        key,
        title=f"{label}: {extent}",
        note=_MEANING.get(run.direction or "", ""),
        description=f"Margins of {label}, {extent}, true class down, competitor across, both from the class "
        "with the largest margins to the one with the smallest.",
        data=[square],
        layout={
            "xaxis": class_axis(names, "Competitor"),
            "yaxis": {**class_axis(names, "True class"), "autorange": "reversed"},
        },
    )


def _largest(margins: Matrix) -> float:
    return max((m for row in margins for m in row if math.isfinite(m)), default=0.0)
