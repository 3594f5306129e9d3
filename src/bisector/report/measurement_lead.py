"""The first lines of a measurement's page: which classes suffer most, why, and what to do next."""

import math
from collections.abc import Sequence
from statistics import median

from bisector.measurement.classes import ClassMeasure, hard_with_neighbour, hardest
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import AMOUNT, COUNT, accuracy_of
from bisector.report.words import count, number, percent, shorten
from bisector.statistics.bootstrap import FEWEST_ROWS, Estimate
from bisector.statistics.relation import chance_limit

_NAMED = 3  # classes
_LONG_NAME = 40  # letters, in a sentence


def lead_lines(found: Measurement) -> list[str]:
    """A line each: who suffers, why, what to do next and what it is expected to bring."""
    return [line for line in (_who(found), _why(found), next_line(found)) if line]


def next_line(found: Measurement) -> str:
    """The next step in one sentence, with the gain that was measured where it was tried."""
    step, best = found.step, None if found.trials is None else found.trials.best
    line = f"Next: {step.title[:1].lower()}{step.title[1:]}"
    if best is None:
        return f"{line}. What it brings is not known before it is tried."
    where = f"cross-validated on {found.trials.on}" if found.trials is not None else ""
    price = f" and accuracy {_gain(best.accuracy_gain)}" * (best.accuracy_gain.value < 0)
    gain = f"balanced accuracy {_gain(best.gain)}{price}, {where}"
    if step.key == "adjust":
        return f"{line}. Expected of it: {gain}."
    return f"{line}. After that, boundaries moved by {best.name} are expected to bring: {gain}."


def _gain(gain: Estimate) -> str:
    """A gain with its interval, in words.

    >>> _gain(Estimate(0.131, 0.08, 0.18))
    '+13.1 percentage points (95 % interval +8.0 to +18.0)'
    """
    value, low, high = (number(100 * one, sign="+") for one in (gain.value, gain.low, gain.high))
    return f"{value} percentage points" + f" (95 % interval {low} to {high})" * (low != "–")


def called(name: str) -> str:
    """A class in a sentence; of a number alone nobody would know what it is."""
    return f"class {name}" if name.isdigit() else shorten(name, _LONG_NAME)


def _who(found: Measurement) -> str:
    ranked, mean = hardest(found.classes), found.balanced_accuracy
    if not ranked:
        return "Which classes suffer cannot be told: the table has no predictions."
    worst = [one for one in ranked if one.accuracy < mean][:_NAMED]
    if not worst:
        return f"No class suffers more than another: {percent(mean)} % of the tested rows of each are right."
    told = _listed([f"{called(one.name)} ({_right(one)})" for one in worst])
    may = [one for one in worst if one.accuracy_high >= mean]
    chance = ""
    if may:
        those = "all of them" if len(may) == len(worst) else _listed([called(one.name) for one in may])
        chance = f" So few rows were tested of {those} that this may be chance."
    begin = "The class that suffers most" if len(worst) == 1 else "The classes that suffer most"
    verb = "is" if len(worst) == 1 else "are"
    return f"{begin} {verb} {told}; the mean over all classes is {percent(mean)} %.{chance}"


def _right(one: ClassMeasure) -> str:
    return f"{round(one.accuracy * one.tested):,} of {count(one.tested, 'tested row')} right"


def _why(found: Measurement) -> str:
    """What goes with low accuracy beyond chance: few rows, a wide class, a near class."""
    own = accuracy_of(found.scores)
    if own is None or not hardest(found.classes):
        return ""
    near = [one for one, near in hard_with_neighbour(found.classes) if near][:_NAMED]
    reasons = []
    counts, amounts = own.of(COUNT), own.of(AMOUNT)
    enough = own.classes >= FEWEST_ROWS
    fewer = 0.0  # rows below which a class has few, where that goes with low accuracy
    if counts is not None and enough and counts.relation.pearson.low > 0:
        fewer = median(one.count for one in found.classes if one.count)
        reasons.append(f"classes of fewer rows fare worse (r = {_r(counts.relation.pearson)})")
    if amounts is not None and enough and amounts.relation.partial.high < 0:
        r = _r(amounts.relation.partial)
        reasons.append(
            f"wide classes, whose rows fill more volume, fare worse whatever their count (r = {r})"
        )
    reasons += [
        f"{called(one.name)} has {f'few rows ({one.count:,}) and ' * (one.count < fewer)}{called(one.neighbour)} "
        f"near, where {one.taken_for_neighbour:,} of its {count(one.errors, 'error')} go"
        for one in near
    ]
    errors = sum(one.errors for one in found.classes)
    drawn = max(found.classes, key=lambda one: one.false_positives)
    if 2 * drawn.false_positives > errors and len(found.classes) > 2:
        reasons.append(
            f"{drawn.false_positives:,} of all {count(errors, 'error')} go to {called(drawn.name)}"
        )
    if reasons:
        return f"Why: {'; '.join(reasons)}."
    if enough:
        return "Why: neither count, nor width, nor a near class stands out beyond chance."
    told = f"from fewer than {FEWEST_ROWS} classes nothing is concluded on count and width"
    related = math.nan if counts is None else counts.relation.pearson.value
    if abs(related) > chance_limit(own.classes):
        told += f", though accuracy goes with the count by r = {number(related, 2, '+')}"
    return f"Why: no near class stands out; {told}."


def _r(one: Estimate) -> str:
    interval = f", {number(one.low, 2, '+')} to {number(one.high, 2, '+')}" if math.isfinite(one.low) else ""
    return f"{number(one.value, 2, '+')}{interval}"


def _listed(words: Sequence[str]) -> str:
    """As in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
