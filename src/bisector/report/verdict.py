"""What a comparison came to in a plain sentence, and what to type next."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bisector.metrics.summary import METRICS
from bisector.report.summary import SummaryRow, leaders, metric_value, summary_rows
from bisector.report.words import count, number, percent
from bisector.statistics.proportion import wilson
from bisector.training.results import WITH, Comparison

_MOST_SEEDS = 30  # that are advised; heads that need more are alike in practice
_BALANCED = next(info for info in METRICS if info.key == "balanced_accuracy")
# Of `bisector compare` alone, and how many words follow.
_COMPARING: Mapping[str, int] = {
    **dict.fromkeys(("--heads", "--planes", "--baseline", "--seeds", "--jobs", "--out", "--decide"), 1),
    **dict.fromkeys(("--keep", "--dry-run"), 0),
}


@dataclass(frozen=True)
class Verdict:
    """What was found, what to do now, and the command for it; the latter two are empty where there are none."""

    found: str
    advice: str = ""
    command: str = ""

    @property
    def lines(self) -> list[str]:
        """All of it for a terminal."""
        return [self.found, *[f"{self.advice}:\n  {self.command}"] * bool(self.command)]


def verdict(comparison: Comparison) -> Verdict:
    """Say which head leads in balanced accuracy and whether the seeds can tell, and advise the next command.

    Where they cannot tell the first from the baseline, else from the second, it is said how many would, at the
    differences that are seen (`PairedDifference.pairs_needed`).
    """
    rows = {row.head: row for row in leaders(summary_rows(comparison), _BALANCED)}
    if not rows:
        return Verdict("No head has a balanced accuracy: there was nothing to test on.")
    first, *equals = rows.values()
    shown = f"balanced accuracy of {metric_value(_BALANCED, first.mean[_BALANCED.key])} %"
    trained = [head for head in comparison.heads if head not in comparison.decided_heads]
    if len(trained) == 1 and (len(comparison.heads) == 1 or first.runs < 2):
        return _alone(comparison)
    if first.runs < 2:
        told = f"{first.label} leads with a {shown}, but one seed cannot tell it from any other head."
        return _more_seeds(comparison, told, 3)
    seeds, over = count(first.runs, "seed"), _over_baseline(comparison, first, rows)
    if not equals:
        told = f"{first.label} leads with a {shown}: {seeds} tell it from every other head.{over}"
        return _trained(comparison, first.head, told)
    rival = rows.get(comparison.baseline_head, equals[0])
    rival = equals[0] if rival is first else rival
    told = f"{first.label} leads with a {shown}, but {seeds} cannot tell it from {_named(rival, equals)}"
    needed = first.minus(rival, _BALANCED.key).pairs_needed()
    if needed is not None and needed <= _MOST_SEEDS:
        return _more_seeds(comparison, f"{told}; about {needed} would.{over}", needed)
    many = "nor would a thousand" if needed is None else f"about {needed} would"
    return _trained(comparison, first.head, f"{told}; {many}: take either.{over}")


def _over_baseline(comparison: Comparison, first: SummaryRow, alike: Mapping[str, SummaryRow]) -> str:
    """By how much a head is above the baseline, where the seeds tell the two apart."""
    head = comparison.baseline_head
    base = next((row for row in summary_rows(comparison) if row.head == head and head not in alike), None)
    if base is None or not (found := first.minus(base, _BALANCED.key)).pairs:
        return ""
    mean, low, high = (number(_BALANCED.scale * value, sign="+") for value in found[:3])
    return f" It is {mean} points from the baseline, {base.label}, 95% interval [{low}, {high}]."


def _alone(comparison: Comparison) -> Verdict:
    """Say how good the one head is, with its decision if it has one, and advise how to go on with it."""
    row, *decided = summary_rows(comparison)
    shown = metric_value(_BALANCED, row.mean[_BALANCED.key])
    found = f"{row.label} has a balanced accuracy of {shown} %{_weakest(comparison)}."
    for other in decided:
        after = metric_value(_BALANCED, other.mean[_BALANCED.key])
        found += f" Decided by {other.head.rpartition(WITH)[2]}, it has {after} %."
    words = _words(comparison, "train")
    if not words:
        return _trained(comparison, row.head, found)
    out = words[words.index("--out") + 1] if "--out" in words[:-1] else "runs/train"
    return Verdict(found, "To see why classes are hard", shlex.join(["bisector", "embed", out]))


def _weakest(comparison: Comparison) -> str:
    """The class that a single training is worst at, with its interval."""
    if len(comparison.runs) - len(comparison.decided_heads) != 1:
        return ""
    accuracy = comparison.runs[0].class_accuracy
    known = [c for c, value in enumerate(accuracy) if math.isfinite(value) and comparison.test_counts[c]]
    if len(known) < 2:
        return ""
    worst, rows = min(known, key=lambda c: accuracy[c]), comparison.test_counts
    right = round(accuracy[worst] * rows[worst])
    found = wilson(right, rows[worst])
    interval = f"95% interval {percent(found.low)} to {percent(found.high)} %"
    share = f"{right:,} of {rows[worst]:,} right ({interval})"
    return f"; its weakest class is {comparison.class_names[worst]}: {share}"


def _named(rival: SummaryRow, equals: Sequence[SummaryRow]) -> str:
    more = len(equals) - 1
    return rival.label + (f", nor from {more} other{'s' * (more > 1)}" if more else "")


def _more_seeds(comparison: Comparison, found: str, seeds: int) -> Verdict:
    words = _words(comparison, "compare", "demo")
    if not words:
        return Verdict(found)
    if "--seeds" in words:
        words[words.index("--seeds") + 1] = f"{seeds}"
    else:
        words += ["--seeds", f"{seeds}"]
    return Verdict(found, "For more seeds (what is trained is not trained again)", shlex.join(words))


def _trained(comparison: Comparison, head: str, found: str) -> Verdict:
    """Advise to train a head for use, by the options of the comparison."""
    words, kept = _words(comparison, "compare", "demo"), ["bisector", "train"]
    if not words or "--config" in words:  # which has options of a comparison in it
        return Verdict(found)
    rest = iter(words[2:])
    for word in rest:
        if word in _COMPARING:
            for _ in range(_COMPARING[word]):
                next(rest, None)
        else:
            kept.append(word)
    if comparison.imbalance > 1 and "--imbalance" not in kept:  # the demo's
        kept += ["--imbalance", f"{comparison.imbalance:g}"]
    spec, _, method = head.partition(WITH)
    kept += ["--head", spec, *(["--decide", method] if method else [])]
    return Verdict(found, "To have it as a model", shlex.join(kept))


def _words(comparison: Comparison, *commands: str) -> list[str]:
    """What was typed, `--option=value` as two words; nothing where it is none of these commands of bisector."""
    try:
        given = shlex.split(comparison.command)
    except ValueError:
        return []
    words = [part for word in given for part in (word.split("=", 1) if word.startswith("--") else [word])]
    return words if words[:1] == ["bisector"] and words[1:2] and words[1] in commands else []
