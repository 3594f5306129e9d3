"""What a comparison came to in a plain sentence, and what to type next."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from bisector.metrics.summary import METRICS
from bisector.report.comparison_figures import counts_of
from bisector.report.summary import LEVEL, SummaryRow, leaders, metric_value, summary_rows
from bisector.report.tested_classes import weakest
from bisector.report.words import count, number
from bisector.statistics.paired import PairedDifference
from bisector.training.recipe import Machine, Recipe, Task, options_of
from bisector.training.results import WITH, Comparison

_MOST_SEEDS = 30  # that are advised; heads that need more are alike in practice
_BALANCED = next(info for info in METRICS if info.key == "balanced_accuracy")
# The flags that a comparison shares with a training.
_SHARED = {name for kind in (Task, Recipe, Machine) for name, _, _ in options_of(kind)}


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
    differences that are seen (`PairedDifference.pairs_needed`). The difference of the best of k heads from the
    baseline is told at a level of 1 - 0.05 / (k - 1) (Bonferroni).
    """
    every = summary_rows(comparison)
    alike = leaders(every, _BALANCED)
    if not alike:
        return Verdict("No head has a balanced accuracy: there was nothing to test on.")
    first, *equals = alike
    shown = f"balanced accuracy of {metric_value(_BALANCED, first.mean[_BALANCED.key])} %"
    trained = [head for head in comparison.heads if head not in comparison.decided_heads]
    if len(trained) == 1 and (len(comparison.heads) == 1 or first.runs < 2):
        return _alone(comparison)
    if first.runs < 2:
        told = f"{first.label} leads with a {shown}, but one seed cannot tell it from any other head."
        return _more_seeds(comparison, told, 3)
    seeds, above, level = count(first.runs, "seed"), "", LEVEL
    base = next((row for row in every if row.head == comparison.baseline_head and row is not first), None)
    if base is not None:
        level = 1 - (1 - LEVEL) / (len(every) - 1)
        over = first.minus(base, _BALANCED.key, level)
        if over.clear:
            above = _above(over, base, len(every))
        else:
            equals = [base, *(row for row in equals if row is not base)]
    if not equals:
        told = f"{first.label} leads with a {shown}: {seeds} tell it from every other head.{above}"
        return _trained(comparison, first.head, told)
    rival = equals[0]
    level = level if rival is base else LEVEL
    told = f"{first.label} leads with a {shown}, but {seeds} cannot tell it from {_named(rival, equals)}"
    needed = first.minus(rival, _BALANCED.key, level).pairs_needed(level)
    if needed is not None and needed <= _MOST_SEEDS:
        return _more_seeds(comparison, f"{told}; about {needed} would, four times in five.{above}", needed)
    many = "nor would a thousand" if needed is None else f"about {needed} would, four times in five"
    return _trained(comparison, first.head, f"{told}; {many}: take either.{above}")


def _above(found: PairedDifference, base: SummaryRow, heads: int) -> str:
    """By how much the first of several heads is above the baseline; the interval allows for their number."""
    mean, low, high = (number(_BALANCED.scale * value, sign="+") for value in found[:3])
    of = f", as the best of {heads}" if heads > 2 else ""
    return f" It is {mean} points from the baseline, {base.label}, 95% interval{of} [{low}, {high}]."


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
    return Verdict(found, "To see why classes are hard", shlex.join(["bisector", "embed", _out(words)]))


def _weakest(comparison: Comparison) -> str:
    """The class that a single training is worst at."""
    if len(comparison.runs) - len(comparison.decided_heads) != 1:
        return ""
    run, rows = comparison.runs[0], comparison.test_counts
    accuracy = run.class_accuracy
    known = [c for c in weakest(accuracy, counts_of(run, comparison)) if rows[c]]
    if len(known) < 2:
        return ""
    worst = known[0]
    # No interval: of the worst of many classes it would hold the truth too rarely.
    share = f"{round(accuracy[worst] * rows[worst]):,} of {rows[worst]:,} right"
    return f"; its weakest class is {comparison.class_names[worst]}, {share}"


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
    """Advise to use the model of a head if it was kept, else to train one by the options of the comparison."""
    words, kept = _words(comparison, "compare", "demo"), ["bisector", "train"]
    if words and head in comparison.models:
        model = f"{PurePath(_out(words), comparison.models[head])}"
        embed = shlex.join(["bisector", "embed", model])
        return Verdict(found, "Its model of seed 0 is kept; to see why classes are hard", embed)
    if not words or "--config" in words:  # which has options of a comparison in it
        return Verdict(found)
    shared = False
    for word in words[2:]:
        if word.startswith("--"):
            shared = word.removeprefix("--").removeprefix("no-").replace("-", "_") in _SHARED
        kept += [word] * shared
    if comparison.imbalance > 1 and "--imbalance" not in kept:  # the demo's
        kept += ["--imbalance", f"{comparison.imbalance:g}"]
    spec, _, method = head.partition(WITH)
    kept += ["--head", spec, *(["--decide", method] if method else [])]
    return Verdict(found, "To have it as a model", shlex.join(kept))


def _out(words: Sequence[str]) -> str:
    """The folder that a command writes to."""
    return words[words.index("--out") + 1] if "--out" in words[:-1] else f"runs/{words[1]}"


def _words(comparison: Comparison, *commands: str) -> list[str]:
    """What was typed, `--option=value` as two words; nothing where it is none of these commands of bisector."""
    try:
        given = shlex.split(comparison.command)
    except ValueError:
        return []
    words = [part for word in given for part in (word.split("=", 1) if word.startswith("--") else [word])]
    return words if words[:1] == ["bisector"] and words[1:2] and words[1] in commands else []
