"""What the figures say in words: computed from the results, and no more than they carry."""

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from bisector.report.comparison_figures import counts_of, reshuffled
from bisector.report.names import head_label
from bisector.report.summary import SummaryRow
from bisector.training.results import Comparison

_FEW_CLASSES = 20  # over fewer, a correlation says nothing unless it is near 1
_FEWEST = 5  # points, or repeated counts, below which an order may well be chance
_SHARE, _CORRELATION = 0.9, 0.95  # "nearly a function of the count"


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
                (n, a)
                for n, a in zip(counts_of(run, comparison), run.amount_history[-1], strict=True)
                if not math.isnan(a)
            ]
            for run in runs
        ]
        label = f"{head_label(head)}: these amounts follow the class sizes"
        if reshuffled(comparison) and _share_of_count([p for run in points for p in run]) >= _SHARE:
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


def _share_of_count(points: Sequence[tuple[int, float]]) -> float:
    """The share of the variance of the ranked amounts that lies between the counts, adjusted for their number."""
    ranks = _ranks([amount for _, amount in points])
    groups: dict[int, list[float]] = {}
    for (count, _), rank in zip(points, ranks, strict=True):
        groups.setdefault(count, []).append(rank)
    repeated = len(ranks) - len(groups)
    if repeated < _FEWEST or len(groups) < _FEWEST or len(set(ranks)) < 2:
        return math.nan
    within = sum(len(group) * statistics.pvariance(group) for group in groups.values())
    return 1 - within / repeated / statistics.variance(ranks)


def _rank_correlation(points: Sequence[tuple[int, float]]) -> float:
    """Spearman's correlation of count and amount."""
    counts, amounts = _ranks(count for count, _ in points), _ranks(amount for _, amount in points)
    if len(points) < _FEWEST or min(len(set(counts)), len(set(amounts))) < 2:
        return math.nan
    return statistics.correlation(counts, amounts)


def _ranks(values: Iterable[float]) -> list[float]:
    """The ranks up to a constant; equal values share the mean of theirs."""
    values = list(values)
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in values]
