"""What a comparison says of the information amounts: whether they tell hard classes, and how they moved."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bisector.metrics.summary import METRICS
from bisector.report.comparison_figures import (
    MOST_NAMES,
    brief_names,
    by_count,
    class_name,
    counts_of,
    first_runs,
    reshuffled,
)
from bisector.report.parts import Figure, Json, axis, class_color, scatter
from bisector.report.summary import SummaryRow, mean_cell
from bisector.report.words import head_label
from bisector.statistics.correlation import pearson
from bisector.training.results import Comparison, Run

_CORRELATIONS = {info.key: info for info in METRICS if info.key.startswith("r_")}
_MOST_POINTS = 4000
_FEW_CLASSES = 20  # over fewer, a correlation says nothing unless it is near 1
_FEWEST = 5  # points, or repeated counts, below which an order may well be chance
_SHARE, _CORRELATION = 0.9, 0.95  # "nearly a function of the count"

Points = Sequence[tuple[int, float]]
"""The training count and the amount of each class."""


def amount_accuracy(comparison: Comparison, rows: Sequence[SummaryRow]) -> list[Figure]:
    """Information amount against accuracy for each head that has any: a point for each class and seed.

    What spreads little beside another head's amounts can be ordered all the same: only accuracy has one axis.
    """
    runs = [run for run in comparison.runs if any(map(math.isfinite, run.class_amount))]
    if len(runs) * len(comparison.class_names) > _MOST_POINTS:
        runs = [run for run in runs if run.seed == runs[0].seed]
    shares = [100 * share for run in runs for share in run.class_accuracy if math.isfinite(share)]
    up: Json = None  # leaves the axis to plotly
    if shares:
        room = 0.06 * (max(shares) - min(shares)) or 1.0  # for the markers
        up = [min(shares) - room, max(shares) + room]
    by_head = [(row, own) for row in rows if (own := [run for run in runs if run.head == row.head])]
    return [_cloud(comparison, row, own, f"amount-accuracy-{i}", up) for i, (row, own) in enumerate(by_head)]


def _cloud(comparison: Comparison, row: SummaryRow, runs: Sequence[Run], key: str, up: Json) -> Figure:
    points = [(run, c, count) for run in runs for c, count in enumerate(counts_of(run, comparison))]
    cells = (mean_cell(row, _CORRELATIONS[f"r_amount_accuracy{given}"]) for given in ("", "_given_count"))
    plain, given_count = (f"{cell.text} {cell.spread}".rstrip() for cell in cells)
    cloud = scatter(
        "markers",
        [run.class_amount[c] for run, c, _ in points],
        [100 * run.class_accuracy[c] for run, c, _ in points],
        text=[class_name(comparison, c) for _, c, _ in points],
        customdata=[[count, run.seed] for run, _, count in points],
        hovertemplate="%{text}<br>%{x:.1f} bits, %{y:.1f} % correct<br>"
        "%{customdata[0]} training instances, seed %{customdata[1]}<extra></extra>",
        marker={"color": [class_color(c) for _, c, _ in points], "size": 6, "opacity": 0.8},
    )
    return Figure(
        key,
        title=row.label,
        note=f"r {plain}\ncount held fixed: {given_count}",
        description=f"{row.label}: a point for each class and seed, its information amount in bits across, "
        "its accuracy up.",
        data=[cloud],
        layout={"xaxis": axis("Amount, bits", nticks=5), "yaxis": axis("Accuracy, %", range=up, nticks=5)},
        height=220,
    )


def amount_answer(rows: Sequence[SummaryRow], classes: int) -> str:
    """Whether the information amount says which classes are hard, beyond their counts.

    A head counts where its mean partial correlation is larger than the deviation over the seeds and beyond
    what chance alone reaches in one case of twenty: `tanh(1.96 / sqrt(C - 4))`, by Fisher's transformation
    (Fisher 1924, for one quantity held fixed). Empty if no head has that correlation.
    """
    key = "r_amount_accuracy_given_count"
    known = [row for row in rows if math.isfinite(row.mean[key])]
    if not known:
        return ""
    nothing = f"Nothing can be concluded from {classes} classes."
    if classes <= 4:
        return nothing
    limit = math.tanh(1.96 / math.sqrt(classes - 4))
    seeds = max(row.runs for row in known)
    clear = [
        row.mean[key]
        for row in known
        if abs(row.mean[key]) > limit and (seeds == 1 or abs(row.mean[key]) > row.deviation[key])
    ]
    negative = sum(mean < 0 for mean in clear)
    if classes < _FEW_CLASSES:
        verdict = nothing
    elif 2 * negative > len(known):
        verdict = "For most heads, yes: classes that hold more are harder, beyond what their counts say."
    elif negative:
        verdict = "For some heads only."
    else:
        verdict = "Not here, beyond what the counts say."
    measure = (
        "mean correlation is larger than its deviation over the seeds and" if seeds > 1 else "correlation is"
    )
    signs = f" ({negative} of them negative)" if clear else ""
    heads = f"{len(clear)} of {len(known)} head{'s' * (len(known) > 1)}{signs}"
    return (
        f"{verdict} With the count held fixed, the {measure} beyond ±{limit:.2f} for {heads}; over {classes} "
        "classes, chance alone goes that far in one case of twenty."
    )


def amount_history(comparison: Comparison) -> list[Figure]:
    """The amount of each class after every refresh, for each head that measured it, in its first run."""
    runs = [run for run in first_runs(comparison) if len(run.amount_history) > 1]
    return [_history(comparison, run, f"history-{i}") for i, run in enumerate(runs)]


def _history(comparison: Comparison, run: Run, key: str) -> Figure:
    refreshes, label = len(run.amount_history), head_label(run.head)
    order = by_count(run.amount_history[-1])
    few = len(order) <= MOST_NAMES
    lines = [
        scatter(
            "lines",
            list(range(1, refreshes + 1)),
            [amounts[c] for amounts in run.amount_history],
            name=name,
            line={"color": class_color(c), "width": 2 if few else 0.5},
            hovertemplate="refresh %{x}: %{y:.1f} bits",
        )
        for c, name in zip(order, brief_names(comparison, order, 10), strict=True)
    ]
    return Figure(
        key,
        title=label,
        description=f"A line for each class: its information amount in bits over the {refreshes} "
        f"refreshes of {label}.",
        data=lines,
        layout={
            "xaxis": axis("Refresh", showgrid=False, dtick=math.ceil(refreshes / 10)),
            "yaxis": axis("Information amount, bits"),
            "showlegend": few,
        },
        height=340,
    )


def size_notes(comparison: Comparison) -> list[str]:
    """A sentence for each head whose last amounts are nearly a function of the training count.

    Where the seeds make different classes rare, the count can be told from the class: then the ranks of the
    amounts lie between the counts and not within (adjusted correlation ratio). Otherwise the amounts of the
    first seed must be in the order of the counts.
    """
    notes = []
    for head in comparison.heads:
        runs = [run for run in comparison.runs if run.head == head and len(run.amount_history) > 1]
        points = [
            [
                (count, amount)
                for count, amount in zip(counts_of(run, comparison), run.amount_history[-1], strict=True)
                if math.isfinite(amount)
            ]
            for run in runs
        ]
        label = f"{head_label(head)}: these amounts follow the class sizes"
        if reshuffled(comparison) and _share_of_count([point for own in points for point in own]) >= _SHARE:
            notes.append(
                f"{label}. Classes with equally many training instances have nearly the same amount in every "
                "seed, whichever classes they are."
            )
        elif points and abs(rank := _rank_correlation(points[0])) >= _CORRELATION:
            notes.append(
                f"{label}: the {'fewer' if rank < 0 else 'more'} training instances a class has, the larger "
                "its amount."
            )
    return notes


def _share_of_count(points: Points) -> float:
    """The share of the variance of the ranked amounts that lies between the counts, adjusted for their number."""
    counts, amounts = torch.tensor(points, dtype=torch.float64).reshape(-1, 2).T.contiguous()
    _, group, held = counts.unique(return_inverse=True, return_counts=True)
    repeated = len(points) - len(held)
    if repeated < _FEWEST or len(held) < _FEWEST or len(amounts.unique()) < 2:
        return math.nan
    ranks = _ranks(amounts)
    means = torch.zeros(len(held), dtype=torch.float64).index_add(0, group, ranks) / held
    within = (ranks - means[group]).square().sum()
    return float(1 - within / repeated / ranks.var())


def _rank_correlation(points: Points) -> float:
    """Spearman's correlation of count and amount."""
    if len(points) < _FEWEST:
        return math.nan
    return float(pearson(*map(_ranks, torch.tensor(points, dtype=torch.float64).T.contiguous())))


def _ranks(values: Tensor) -> Tensor:  # (n,) -> (n,)
    """The ranks up to a constant; equal values share the mean of theirs."""
    ordered = values.sort().values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to).double() / 2
