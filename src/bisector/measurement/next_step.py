"""What to do next: a few rules, asked in one order, of which the first that holds is recommended."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bisector.data.embeddings import EmbeddingTable
from bisector.measurement.classes import FEWEST, ClassMeasure
from bisector.measurement.correlations import Correlations
from bisector.measurement.duplicates import Duplicates
from bisector.measurement.label_errors import LabelErrors

SUSPECT_SHARE = 0.05
"""Share of suspected labels from which they come first; classes that overlap bring some percent by themselves."""

TRUSTED_AGREEMENT = 0.8
"""Share of labels that the judge must agree with for its doubt in the others to count."""

SMALL_SHARE = 0.25
"""Share of the classes with fewer than 13 rows from which more examples come first."""

CORRELATION = 0.5
"""Correlation of count and accuracy from which the count is what is wrong."""


@dataclass(frozen=True)
class Step:
    """One rule and what came of it.

    Args:
        key: of the rule.
        holds: whether the step is to be taken; None if the table does not say.
        title: the step, in a few words.
        reason: what was found.
        command: what to type.
    """

    key: str
    holds: bool | None
    title: str
    reason: str
    command: str


def next_steps(
    table: EmbeddingTable,
    file: str,
    classes: Sequence[ClassMeasure],
    correlations: Correlations,
    label_errors: LabelErrors,
    duplicates: Duplicates,
) -> list[Step]:
    """All rules in their order: what spoils a measurement first, then what is cheapest to mend.

    1. Leakage: an example of test or validation is in an earlier split too.
    2. Labels: at least 5% are suspect, by a judge that agrees with 80% of them.
    3. Small classes: at least a quarter of the classes have fewer than 13 rows.
    4. Prior: log count and accuracy correlate by 0.5 or more, and beyond chance.
    5. Amount: amount and accuracy correlate negatively beyond chance with the count held fixed.
    6. Nothing of this: compare heads. This rule always holds.

    Args:
        table: the embeddings.
        file: their path, for the commands.
        classes: as measured.
        correlations: over the classes.
        label_errors: suspected.
        duplicates: found.
    """
    again = _command("bisector measure", file)
    if table.model:
        again = _command("bisector embed", table.model, table.data, "--out", file)
    compare = _command("bisector compare --data", table.data or file, "--heads")
    adjust = _command("bisector adjust", file, "--method prior")
    rules = [
        _leakage(table, duplicates, again),
        _labels(label_errors, again),
        _small(classes, f"{compare} logit-adjusted,normalized-softmax:tau=1"),
        _prior(correlations, f"{compare} linear-softmax,logit-adjusted" if table.scores is None else adjust),
        _amount(correlations, f"{compare} normalized-softmax,igam,igam:tau=1"),
    ]
    nothing = not any(rule.holds for rule in rules)
    reason = "None of the above stands out." if nothing else "When the above is done."
    command = f"{compare} linear-softmax,normalized-softmax,igam:tau=1"
    return [*rules, Step("compare", True, "Compare heads on this data", reason, command)]


def recommended(steps: Sequence[Step]) -> Step:
    """The first step that is to be taken."""
    return next(step for step in steps if step.holds)


def _leakage(table: EmbeddingTable, duplicates: Duplicates, command: str) -> Step:
    title = "Take out the examples that are in more than one split"
    if table.splits is None:
        return Step("leakage", None, title, "The table has no splits.", command)
    held = sum(split != "train" for split in table.splits)
    count = duplicates.leaked
    reason = (
        f"{count} of the {held} rows of validation and test are in an earlier split too: what a model scores on "
        "them is memory. duplicates.csv names them."
        if count
        else "No row of validation or test is in an earlier split."
    )
    return Step("leakage", count > 0, title, reason, command)


def _labels(found: LabelErrors, command: str) -> Step:
    title = "Look at the suspected labels"
    if not found.judged:
        return Step("labels", None, title, "No label could be judged.", command)
    share = len(found.suspects) / found.judged
    reason = f"{len(found.suspects)} of {found.judged} labels are suspect ({100 * share:.1f}%)"
    if found.agreement < TRUSTED_AGREEMENT:
        agreed = f"{100 * found.agreement:.0f}% of the labels"
        reason += f", but the judge agrees with {agreed} only: it is itself often wrong."
        return Step("labels", False, title, reason, command)
    holds = share >= SUSPECT_SHARE
    reason += ". label_errors.csv ranks them." if holds else "."
    return Step("labels", holds, title, reason, command)


def _small(classes: Sequence[ClassMeasure], command: str) -> Step:
    there = [one for one in classes if one.count]
    small = [one for one in there if one.count < FEWEST]
    reason = f"{len(small)} of {len(there)} classes have fewer than {FEWEST} rows"
    holds = len(small) >= SMALL_SHARE * len(there)
    reason += (
        ": more examples of these are worth more than any loss. Until then, try a prior." if holds else "."
    )
    return Step("small", holds, "Collect more examples of the smallest classes", reason, command)


def _prior(found: Correlations, command: str) -> Step:
    title = "Move the boundaries by the counts"
    r = found.count_accuracy
    if math.isnan(r):
        return Step("prior", None, title, _unknown("count and accuracy", found), command)
    limit = max(CORRELATION, found.chance) if math.isfinite(found.chance) else math.inf
    reason = f"Count and accuracy correlate by {r:+.2f} over {found.classes} classes"
    reason += ": rare classes lose." if r >= limit else "; " + _needed(f"{limit:+.2f} or more", found)
    return Step("prior", r >= limit, title, reason, command)


def _amount(found: Correlations, command: str) -> Step:
    title = "Guide the margins by the information amounts"
    r = found.amount_accuracy_given_count
    if math.isnan(r):
        return Step("amount", None, title, _unknown("amount and accuracy", found), command)
    holds = r < -found.chance
    reason = (
        f"With the count held fixed, amount and accuracy correlate by {r:+.2f} over {found.classes} classes"
    )
    needed = _needed(f"below {-found.chance:+.2f}", found)
    reason += ": classes that hold more are harder." if holds else f"; {needed}"
    return Step("amount", holds, title, reason, command)


def _needed(what: str, found: Correlations) -> str:
    return f"{what} would count." if found.classes > 4 else "nothing can be concluded from so few classes."


def _unknown(what: str, found: Correlations) -> str:
    if found.classes:
        return f"A correlation of {what} cannot be had from these {found.classes} classes."
    return "The table has no predictions, so that accuracy is not known."


def _command(words: str, *more: str) -> str:
    options = (word if word.startswith("--") else shlex.quote(word) for word in more)
    return " ".join([words, *options])
