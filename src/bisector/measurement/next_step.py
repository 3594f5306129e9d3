"""What to do next: a few rules, asked in one order, of which the first that holds is recommended."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bisector.data.tables import EmbeddingTable
from bisector.measurement.classes import FEWEST, ClassMeasure
from bisector.measurement.command import Option, column_options, command_line
from bisector.measurement.duplicates import Duplicates
from bisector.measurement.label_errors import LabelErrors
from bisector.measurement.score_measures import AMOUNT, COUNT, ScoreMeasure
from bisector.measurement.trials import NOT_STREAMED, prior_note
from bisector.posthoc.trial import Trial, Trials
from bisector.statistics.bootstrap import FEWEST_ROWS, Estimate
from bisector.statistics.relation import chance_limit

SUSPECT_SHARE = 0.05
"""Share of suspected labels from which they come first; classes that overlap bring some percent by themselves."""

LEAKED_SHARE = 0.01
"""Share of the rows held out from which leakage comes first: it moves their accuracy by up to as much."""

SMALL_SHARE = 0.25
"""Share of the classes with fewer than 13 rows from which more examples come first."""

CHANCE_LEFT = 0.1
"""Share of the way from chance to 1 below which, and below twice chance, a balanced accuracy is near chance."""

FEWEST_TESTED = 5
"""Tested rows a class from which accuracy can be told from chance."""

CORRELATION = 0.5
"""Correlation of log count and accuracy from which the count is what is wrong."""

NOT_LOOKED_FOR = "Not looked for: the table was streamed. --engine memory looks for it."
"""Why a streamed measurement has no label errors and no duplicates."""

_FEW = f"nothing is concluded from fewer than {FEWEST_ROWS} classes."

_NO_PREDICTIONS = "The table has no predictions, so that accuracy is not known."


@dataclass(frozen=True)
class Step:
    """One rule and what came of it.

    Args:
        key: of the rule.
        holds: whether the step is to be taken; None if the table does not say.
        title: the step, in a few words.
        reason: what was found.
        command: what to type; empty where no command helps.
        lead: words before the command, where it is not the step itself.
    """

    key: str
    holds: bool | None
    title: str
    reason: str
    command: str
    lead: str = ""


_EXPERIMENT = "An experiment, of which nothing is known beforehand on these data:"


def next_steps(
    table: EmbeddingTable,
    file: str,
    classes: Sequence[ClassMeasure],
    accuracy: ScoreMeasure | None,
    label_errors: LabelErrors | None,
    duplicates: Duplicates | None,
    command: str = "",
    trials: Trials | None = None,
    *,
    vectors: bool = True,
    counted: bool = True,
) -> list[Step]:
    """All rules in their order: what spoils a measurement first, then what is cheapest to mend.

    Of the rows at hand nothing is recommended that was not tried on them. What needs another training is an
    experiment, and is called one.

    1. Chance: balanced accuracy over C classes is below both 2 / C and a tenth of the way from 1 / C to 1.
    2. Leakage: of validation and test 1%, and at least 2 rows, are in an earlier split too. Of classes that the
       network maps to one point it cannot be told.
    3. Labels: at least 5% are suspect, by a judge that agrees with 80% of them.
    4. Adjustment: of all that `bisector adjust` could do, cross-validated on held-out rows, one gains balanced
       accuracy with an interval above 0; that of the largest gain. Else the boundaries are left as they are.
    5. Small classes: at least a quarter of the classes have fewer than 13 rows.
    6. Prior: log count and accuracy correlate by 0.5 or more, beyond chance and with an interval above 0, and the
       head was not trained with the prior.
    7. Amount: amount and accuracy correlate negatively beyond chance with log count held fixed, with an interval
       below 0.
    8. Nothing of this: compare heads. This rule always holds.

    The commands have the settings that the table was made with, as far as they have such options.

    Args:
        table: where the data come from; its rows are not looked at.
        file: their path, for the commands.
        classes: as measured.
        accuracy: what goes with it over the classes; None without predictions.
        label_errors: suspected; None where they were not looked for.
        duplicates: found; None where they were not looked for.
        command: that measured them; it is recommended again where the table does not say how it was made.
        trials: of adjustments; None where the table has no scores.
        vectors: whether the table has embeddings.
        counted: whether the rows counted may be those that a model is trained on, and not tested ones alone.
    """
    data, kept = table.data or file, _data_settings(table)
    heads = (
        command_line("bisector compare", options={"data": _path(data), **_without(kept, "seed")}) + " --heads"
    )
    columns = column_options(command)
    again = command or command_line("bisector measure", file)
    if table.model and table.data:
        options = {**_embedding_settings(table), "out": _path(file)}
        again = command_line("bisector embed", table.model, table.data, options=options)
    look = command_line("bisector measure", file, options={**columns, "engine": "memory"}) if vectors else ""
    note = prior_note(table.head)
    rules = [
        _chance(classes, command_line("bisector train", options={"data": _path(data), **kept})),
        _leakage(duplicates, look),
        _labels(label_errors, again, look),
        _adjust(trials, command_line("bisector adjust", file, options=columns) + " --method", look),
        _small(classes if counted else (), f"{heads} logit-adjusted,normalized-softmax:tau=1"),
        _prior(accuracy, f"{heads} linear-softmax,logit-adjusted", note),
        _amount(accuracy, f"{heads} normalized-softmax,igam,igam:tau=1"),
    ]
    if not vectors and not table.data:  # there is nothing to train on
        told = "Labels and predictions alone say which classes are hard, not why: embeddings of the same rows do."
        rules = [replace(rule, command="", lead="") if heads in rule.command else rule for rule in rules]
        return [*rules, Step("embed", True, "Store embeddings beside the predictions", told, "")]
    nothing = not any(rule.holds for rule in rules)
    reason = "Nothing stands out in these embeddings." if nothing else "When what stands out is done."
    compare = f"{heads} linear-softmax,logit-adjusted,normalized-softmax:tau=1"
    return [*rules, Step("compare", True, "Compare heads on this data", reason, compare, _EXPERIMENT)]


def recommended(steps: Sequence[Step]) -> Step:
    """The first step that is to be taken."""
    return next(step for step in steps if step.holds)


def _chance(classes: Sequence[ClassMeasure], command: str) -> Step:
    title = "Train the model first"
    known = [one.accuracy for one in classes if math.isfinite(one.accuracy)]
    if len(known) < 2:
        told = (
            f"Accuracy is known of {len(known)} class{'es' * (len(known) != 1)}."
            if known
            else _NO_PREDICTIONS
        )
        return Step("chance", None, title, told, command)
    tested = sum(one.tested for one in classes)
    if tested < FEWEST_TESTED * len(known):
        told = f"{tested} tested rows of {len(known)} classes are too few to tell."
        return Step("chance", None, title, told, command)
    reached, chance = sum(known) / len(known), 1 / len(known)
    holds = reached < min(2 * chance, chance + CHANCE_LEFT * (1 - chance))
    reason = f"A balanced accuracy of {100 * reached:.1f}% over {len(known)} classes is " + (
        f"near chance ({100 * chance:.1f}%): what is said of such a model's classes says little of the data."
        if holds
        else f"far from chance ({100 * chance:.1f}%)."
    )
    return Step("chance", holds, title, reason, command)


def _leakage(duplicates: Duplicates | None, look: str) -> Step:
    title = "Take out the examples that are in more than one split"
    if duplicates is None:
        return Step("leakage", None, title, NOT_LOOKED_FOR if look else "Not told without embeddings.", look)
    held, count = duplicates.held_out, duplicates.leaked
    if held is None:
        return Step("leakage", None, title, "The table has no splits.", "")
    holds = count >= max(2, LEAKED_SHARE * held)
    are = "is" if count == 1 else "are"
    reason = f"{count} of the {held} rows of validation and test {are} in an earlier split too"
    if holds:
        reason += (
            ": what a model scores on them is memory. duplicates.csv names them; take them out of the data."
        )
    elif count:
        reason += ": too few to matter much. duplicates.csv names them."
    else:
        reason = "No row of validation or test is in an earlier split."
    if duplicates.points:
        reason = f"{reason} " if count else ""
        reason += (
            f"The network maps {len(duplicates.points)} of {duplicates.classes} classes to one point, or nearly: "
            "whether their examples are in more than one split cannot be told from it."
        )
    unknown = bool(duplicates.points) and not holds
    return Step("leakage", None if unknown else holds, title, reason, "")


def _labels(found: LabelErrors | None, command: str, look: str) -> Step:
    title = "Look at the suspected labels"
    if found is None:
        return Step("labels", None, title, NOT_LOOKED_FOR, look)
    lead = "Put right in the data what is wrong, then:"
    if not found.judged:
        return Step("labels", None, title, "No label could be judged.", command, lead)
    share = len(found.suspects) / found.judged
    reason = f"{len(found.suspects)} of {found.judged} labels are suspect ({100 * share:.1f}%)"
    if not found.trusted:
        agreed = f"{100 * found.agreement:.0f}% of the labels"
        reason += f", but the judge agrees with {agreed} only: it is itself often wrong."
        return Step("labels", False, title, reason, command, lead)
    holds = share >= SUSPECT_SHARE
    reason += ". label_errors.csv ranks them." if holds else "."
    return Step("labels", holds, title, reason, command, lead)


def _adjust(trials: Trials | None, command: str, look: str) -> Step:
    if trials is None or not trials.tried:
        reasons = ("The table has no scores.",) if trials is None else trials.not_tried
        told = f"Not tried. {' '.join(reasons)}"
        return Step("adjust", None, "Move the boundaries", told, look if NOT_STREAMED in reasons else "")
    best = trials.best
    of = f"Tried on {trials.on}, cross-validated: balanced accuracy {_share(trials.balanced_accuracy)}"
    if best is not None:
        others = [trial for trial in trials.tried if trial is not best]
        than = f" Others: {'; '.join(map(_gained, others))}." if others else ""
        changed = "becomes" if best.accuracy_gain.value else "stays at"
        reason = (
            f"{of} becomes {_share(best.balanced_accuracy)} by {_gained(best)}; accuracy {_share(trials.accuracy)} "
            f"{changed} {_share(best.accuracy)}.{than}"
        )
        return Step("adjust", True, f"Move the boundaries: {best.name}", reason, f"{command} {best.name}")
    reason = f"{of}; no gain lies clearly above 0: {'; '.join(map(_gained, trials.tried))}."
    if trials.few:
        return Step(
            "adjust", None, "Move the boundaries", f"{reason} {trials.few}", command.removesuffix(" --method")
        )
    return Step("adjust", False, "Leave the boundaries as they are", reason, "")


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


def _gained(trial: Trial) -> str:
    return f"{trial.name} {points(trial.gain)}"


def points(gain: Estimate) -> str:
    """A gain in percentage points with its interval.

    >>> points(Estimate(0.131, 0.08, 0.18)), points(Estimate(-0.01))
    ('+13.1 points (+8.0 to +18.0)', '-1.0 points')
    """
    interval = f" ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" if math.isfinite(gain.low) else ""
    return f"{100 * gain.value:+.1f} points{interval}"


def before_and_after(trials: Trials, trial: Trial, on: str) -> str:
    """What a trial found on rows, in words."""
    return (
        f"balanced accuracy of {on}: {100 * trials.balanced_accuracy:.1f} % before, "
        f"{100 * trial.balanced_accuracy:.1f} % after, {points(trial.gain)}"
        + ", so it lowers it"
        * (trial.gain.value < 0)
    )


def _small(classes: Sequence[ClassMeasure], command: str) -> Step:
    title = "Collect more examples of the smallest classes"
    there = [one for one in classes if one.count]
    if not there:
        return Step("small", None, title, "Of how many rows a model learned each class is not told.", "")
    small = [one for one in there if one.count < FEWEST]
    reason = f"{len(small)} of {len(there)} classes have fewer than {FEWEST} rows"
    holds = len(small) >= SMALL_SHARE * len(there)
    reason += ": more examples of these are worth more than any loss." if holds else "."
    return Step("small", holds, title, reason, command, "Until then, a prior may help:")


def _prior(accuracy: ScoreMeasure | None, command: str, note: str) -> Step:
    title = "Try heads that are told the counts"
    found = None if accuracy is None else accuracy.of(COUNT)
    if found is None or math.isnan(found.relation.pearson.value):
        return Step("prior", None, title, _unknown("log count and accuracy", accuracy), command, _EXPERIMENT)
    r, classes = found.relation.pearson, found.relation.rows
    limit = max(CORRELATION, chance_limit(classes))
    reason = f"Log count and accuracy correlate by {r.value:+.2f} over {classes} classes"
    if classes < FEWEST_ROWS:
        return Step("prior", None, title, f"{reason}; {_FEW}", command, _EXPERIMENT)
    lose = r.value >= limit and r.low > 0
    reason += ": rare classes lose." if lose else f"; {limit:+.2f} or more, clear of 0, would count."
    if note and lose:
        reason += " But the head was trained with the counts already."
    return Step("prior", lose and not note, title, reason, command, _EXPERIMENT)


def _amount(accuracy: ScoreMeasure | None, command: str) -> Step:
    title = "Guide the margins by the information amounts"
    found = None if accuracy is None else accuracy.of(AMOUNT)
    if found is None or math.isnan(found.relation.partial.value):
        return Step("amount", None, title, _unknown("amount and accuracy", accuracy), command, _EXPERIMENT)
    r, classes = found.relation.partial, found.relation.rows
    limit = -chance_limit(classes, held=1)
    reason = (
        f"With log count held fixed, amount and accuracy correlate by {r.value:+.2f} over {classes} classes"
    )
    if classes < FEWEST_ROWS:
        return Step("amount", None, title, f"{reason}; {_FEW}", command, _EXPERIMENT)
    holds = r.value < limit and r.high < 0
    reason += (
        ": classes that hold more are harder." if holds else f"; below {limit:+.2f}, clear of 0, would count."
    )
    return Step("amount", holds, title, reason, command, _EXPERIMENT)


def _unknown(what: str, accuracy: ScoreMeasure | None) -> str:
    if accuracy is not None and accuracy.classes:
        return f"A correlation of {what} cannot be had from these {accuracy.classes} classes."
    return _NO_PREDICTIONS


def _path(text: str) -> str:
    """The value of an option that is a path or a name: one that begins with a dash becomes a path that does not."""
    return f"./{text}" if text.startswith("-") else text


# What a setting may be; whatever else a file says is nobody's setting.
_KINDS: Mapping[str, tuple[type, ...]] = {
    "imbalance": (int, float),
    "seed": (int,),
    "split": (str,),
    "image_size": (int,),
    "label": (str,),
    "part": (str,),
    "pretrained": (bool,),
    "weights": (str,),
    "embedding_output": (str,),
    "scores_output": (str,),
    "mean": (list, tuple),
    "std": (list, tuple),
}
_DEFAULTS: Mapping[str, Any] = {"imbalance": 1, "seed": 0, "split": "standard", "pretrained": True}
_OF_THE_DATA = ("imbalance", "seed", "split", "image_size", "label")


def _settings(table: EmbeddingTable) -> dict[str, Any]:
    return {key: value for key, kinds in _KINDS.items() if _fits(value := table.settings.get(key), kinds)}


def _fits(value: object, kinds: tuple[type, ...]) -> bool:
    if list in kinds:
        return isinstance(value, (list, tuple)) and all(_fits(number, (int, float)) for number in value)
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _data_settings(table: EmbeddingTable) -> dict[str, Option]:
    """What training on the same data needs; what is the default is left out."""
    found = _settings(table) if table.data else {}  # else the table itself is the data
    return {key: found[key] for key in _OF_THE_DATA if key in found and found[key] != _DEFAULTS.get(key)}


def _embedding_settings(table: EmbeddingTable) -> dict[str, Option]:
    """What embedding again needs. A run of ours takes the settings of its training where it is told none."""
    foreign = table.model.startswith(("timm/", "torchvision/")) or table.model.lower().endswith(".onnx")
    found = _settings(table)
    if "weights" in found:
        found["weights"] = _path(found["weights"])
    return {k: value for k, value in found.items() if not foreign or value != _DEFAULTS.get(k)}


def _without(settings: Mapping[str, Option], key: str) -> dict[str, Option]:
    return {name: value for name, value in settings.items() if name != key}
