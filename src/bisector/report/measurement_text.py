"""A measurement in words: as text for a terminal, and the sentences that its page says too."""

import math
from collections.abc import Sequence

from bisector.measurement.classes import hardest
from bisector.measurement.confusion import Pair
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import AMOUNT, EQUAL, ScoreMeasure
from bisector.metrics.verification import Verification
from bisector.posthoc.trial import Trials
from bisector.report.names import plain, shorten
from bisector.report.numbers import count, error, number, percent, significant
from bisector.report.table import Table
from bisector.statistics.bootstrap import Estimate
from bisector.statistics.regression import NestedRegression

TRIAL_HEADINGS = ("balanced, %", "gain, points", "accuracy, %", "gain, points")

_NAME = 28
_MOST = 10


def format_measurement(measurement: Measurement) -> str:
    """The measurement in a page of text: what it is of, the hardest classes, pairs, suspects, and the next step."""
    found = measurement
    blocks = [
        _head(found),
        _classes(found),
        *(_score(found, score) for score in found.scores),
        _trials(found),
        _pairs(found),
        _suspects(found),
        _duplicates(found),
        _verification(found),
        "\n".join(f"Note: {plain(note)}" for note in found.notes),
        "\n".join(f"Left out: {plain(line)}" for line in _few(found.left_out)),
        _next(found),
    ]
    return "\n\n".join(filter(None, blocks))


def amounts_of(found: Measurement) -> str:
    """What amounts are of, in words: the scale of the embeddings and the shrinkage."""
    scale = "as they are" if found.embeddings == "raw" else "every row at length √D"
    return f"Amounts are of {found.embeddings} embeddings ({scale}), with the shrinkage {found.shrinkage}"


def not_looked_for(found: Measurement) -> str:
    """Why a streamed measurement has no label errors and no duplicates, in words."""
    return (
        "Not looked for: the table was streamed. --engine memory looks for them, and needs memory for "
        f"all {count(found.rows, 'row')}."
    )


def verified_pairs(verified: Verification) -> str:
    """What was verified, in words."""
    return (
        f"{verified.genuine_pairs:,} genuine and {verified.impostor_pairs:,} impostor pairs of "
        f"{count(verified.embeddings, 'row')} in {count(verified.classes, 'class')}"
    )


def trial_rows(found: Trials) -> list[list[str]]:
    """The scores as they are, then each adjustment that was tried: its name, and the cells of `TRIAL_HEADINGS`."""
    rows = [["as they are", percent(found.balanced_accuracy), "–", percent(found.accuracy), "–"]]
    for trial in found.tried:
        balanced = [percent(trial.balanced_accuracy), points(trial.gain)]
        rows.append([trial.name, *balanced, percent(trial.accuracy), points(trial.accuracy_gain)])
    return rows


def points(gain: Estimate) -> str:
    """A gain in percentage points with its interval.

    >>> points(Estimate(0.131, 0.08, 0.18)), points(Estimate(-0.01))
    ('+13.1 (+8.0 to +18.0)', '−1.0')
    """
    value, low, high = (number(100 * each, sign="+") for each in (gain.value, gain.low, gain.high))
    return f"{value} ({low} to {high})" if math.isfinite(gain.low) else value


def describe_trials(found: Trials) -> str:
    """What comes of the adjustments that were tried, how they were, and why others were not, in words."""
    how = (
        "Cross-validated: no row is judged by what was fitted on it. In 95 of 100 cases all of these intervals "
        "hold the truth (BCa bootstrap over the rows)."
    )
    if found.best is None:
        how = f"Leave the scores as they are: no gain lies clearly above 0. {how}"
    return " ".join([*[how] * bool(found.tried), *(f"Not tried: {one}" for one in _few(found.not_tried))])


def taken(pair: Pair) -> list[str]:
    """How many rows of each class were taken for the other, a dash where none was tested, and the mean share.

    >>> taken(Pair("a", "b", 2, 1, 4, 2, share=0.5)), taken(Pair("a", "b", 2, 0, 4, 0, share=0.25))
    (['2', '1', '50.0'], ['2', '–', '≥ 25.0'])
    """
    first = f"{pair.first_as_second:,}" if pair.first_tested else "–"
    second = f"{pair.second_as_first:,}" if pair.second_tested else "–"
    return [first, second, "≥ " * (not pair.both_tested) + percent(pair.share)]


def score_title(score: ScoreMeasure) -> str:
    """The score and where it comes from.

    >>> score_title(ScoreMeasure("AP", "ap.csv", True, [], [], 0.0, 0.0, 0))
    'AP (ap.csv)'
    """
    return f"{score.name} ({score.source})" if score.source else score.name


def sentences(score: ScoreMeasure) -> list[str]:
    """What a score adds to the tables of correlations, a sentence each; empty where there is nothing to say."""
    return [*(_adds(score, quantity) for quantity in (AMOUNT, EQUAL)), _small(score), _bias(score)]


def _adds(score: ScoreMeasure, quantity: str) -> str:
    one = score.of(quantity)
    if one is None or math.isnan(one.adds.gain):
        return ""
    adds = one.adds
    f = f"{adds.f:#.3g}".rstrip(".") if adds.f < 1000 else f"{adds.f:,.0f}"
    return (
        f"Over {count(adds.rows, 'class')}, log count alone explains {100 * adds.r2_base:.1f} % of the variance of "
        f"{score.name}, with the {quantity} {100 * adds.r2_full:.1f} %: {100 * adds.gain:.1f} points more "
        f"(F = {f}, {chance_of(adds)})."
    )


def chance_of(adds: NestedRegression) -> str:
    """The p value in words.

    >>> chance_of(NestedRegression(9, 0.1, 0.2, 4.0, 0.0312)), chance_of(NestedRegression(9, 0.1, 0.9, 90.0, 1e-9))
    ('p = 0.031', 'p < 0.001')
    """
    if math.isnan(adds.p):
        return "p not known"
    return "p < 0.001" if adds.p < 0.001 else f"p = {adds.p:#.2g}"


def _small(score: ScoreMeasure) -> str:
    if not score.small:
        return ""
    are = "is" if len(score.small) == 1 else "are"
    small, share = len(score.small), 100 * len(score.small) / score.classes
    return (
        f"{small:,} of these {score.classes:,} classes ({share:.0f} %) {are} too small for an amount to mean much: "
        f"fewer than {score.fewest} rows."
    )


def _bias(score: ScoreMeasure) -> str:
    def told(value: float) -> str:
        return number(value) if abs(value) >= 0.1 else f"{value:.2g}".replace("-", "−")

    if math.isnan(score.bias):
        return ""
    unit = "percentage points squared" if score.percent else "in its own unit squared"
    line = f"Bias, the variance of {score.name} over the classes: {told(score.bias)} ({unit})"
    if math.isfinite(score.bias_corrected):
        line += f"; {told(score.bias_corrected)} without what few tested rows bring by chance"
    return f"{line}."


def _head(found: Measurement) -> str:
    splits = ", ".join(f"{rows:,} {name}" for name, rows in found.splits.items())
    lines = [
        f"{plain(found.file)}: {count(found.rows, 'row')} of {count(found.dimensions, 'dimension')}, "
        f"{count(len(found.classes), 'class')}{f' ({splits})' if splits else ''}"
    ]
    if found.tested_on:
        lines.append(
            f"Accuracy {percent(found.accuracy)} %, balanced {percent(found.balanced_accuracy)} %, on "
            f"{found.tested_on}; counts and amounts on {found.measured_on}"
        )
    return "\n".join([*lines, amounts_of(found)])


def _classes(found: Measurement) -> str:
    ranked = hardest(found.classes)
    title = "Hardest classes" if ranked else "Classes with the largest amounts"
    amounts = [one for one in found.classes if math.isfinite(one.amount)]
    bounds = any(one.error_bound > 0 for one in amounts)  # else all are exact
    ranked = ranked or sorted(amounts, key=lambda one: -one.amount)
    rows = [
        [
            *(_name(one.name), str(one.count), number(one.amount)),
            *(error(one.error_bound) if bounds else "–", error(one.error_estimate)),
            *(percent(one.accuracy), number(one.loss, 2)),
        ]
        for one in ranked[:_MOST]
    ]
    errors = ("error at most", "error estimated")
    return _table([title, "rows", "amount, bits", *errors, "accuracy, %", "loss"], rows)


def _score(found: Measurement, score: ScoreMeasure) -> str:
    lines = [f"{plain(score_title(score))}, correlations over the classes (95 % intervals)"]
    rows = [
        [
            one.quantity + (f" ({found.equal_count:,} rows each)" if one.quantity == EQUAL else ""),
            *map(_estimate, (one.relation.pearson, one.relation.spearman, one.relation.partial)),
            one.given,
            f"{one.relation.rows:,}",
        ]
        for one in score.relationships
    ]
    if rows:
        lines.append(_table(["With", "Pearson", "Spearman", "partial", "held fixed", "classes"], rows))
    return "\n".join([*lines, *(plain(line) for line in sentences(score) if line)])


def _estimate(one: Estimate) -> str:
    value, low, high = (number(each, 2, "+") for each in (one.value, one.low, one.high))
    return f"{value} ({low} to {high})" if math.isfinite(one.value) and math.isfinite(one.low) else value


def _trials(found: Measurement) -> str:
    if found.trials is None or not found.trials.tried:
        return ""  # the steps say why
    title = f"Adjustments tried on {found.trials.on}"
    return f"{_table([title, *TRIAL_HEADINGS], trial_rows(found.trials))}\n{plain(describe_trials(found.trials))}"


def _pairs(found: Measurement) -> str:
    def both(pair: Pair) -> str:
        return f"{_name(pair.first)} – {_name(pair.second)}"

    if found.confused:
        headings = ["Pairs most confused, A – B", "A as B", "B as A", "mean share, %"]
        return _table(headings, [[both(pair), *taken(pair)] for pair in found.confused[:5]])
    rows = [[both(pair), number(pair.degrees)] for pair in found.nearest[:5]]
    return _table(["Nearest pairs of classes", "degrees"], rows) if rows else ""


def _suspects(found: Measurement) -> str:
    errors = found.label_errors
    if errors is None:
        return f"Label errors and duplicates: {not_looked_for(found)}"
    if not errors.suspects:
        return ""
    title = f"{len(errors.suspects)} of {errors.judged} labels are suspect"
    if not errors.trusted:
        return f"{title}, by a judge that is unreliable: it agrees with {percent(errors.agreement)} % of the labels"
    rows = [
        [_end(one.name), _name(one.label), _name(one.suggested), significant(one.confidence)]
        for one in errors.suspects[:5]
    ]
    return _table([title, "label", "rather", "confidence"], rows)


def _duplicates(found: Measurement) -> str:
    same = found.duplicates
    if same is None or not same.groups:
        return ""
    leaked = (
        f"; {count(same.leaked, 'row')} of validation and test in an earlier split too" if same.leaked else ""
    )
    first = same.groups[0]
    return (
        f"{count(same.rows, 'row')} in {count(len(same.groups), 'group')} of duplicates{leaked}: "
        f"{', '.join(map(_end, first.names[:3]))}{' …' if first.size > 3 else ''}"
    )


def _verification(found: Measurement) -> str:
    verified = found.verification
    if verified is None:
        return ""
    lines = [
        f"Classes never trained on, every pair by cosine: {verified_pairs(verified)}",
        f"  EER {percent(verified.eer)} % at {number(verified.eer_threshold, 3)}",
        *(
            f"  TAR {percent(tar)} % at FAR {far:g}, threshold {number(verified.thresholds[far], 3)}"
            for far, tar in verified.tar.items()
            if math.isfinite(tar)
        ),
    ]
    return "\n".join(lines)


def _next(found: Measurement) -> str:
    step = found.step
    lines = [f"Next: {step.title}", step.reason, *([step.lead, step.command] if step.command else [])]
    return "\n  ".join(plain(line) for line in lines if line)


def _few(lines: Sequence[str]) -> list[str]:
    more = [f"{len(lines) - _MOST} more; measure.json names them"] if len(lines) > _MOST else []
    return [*lines[:_MOST], *more]


def _name(text: str) -> str:
    return shorten(plain(" ".join(text.split())), _NAME)


def _end(text: str) -> str:
    """The end of a path, which tells more than its beginning."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= 2 * _NAME else f"…{line[1 - 2 * _NAME :]}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return Table(headings, rows).without_dashes().text(corner=headings[0], wrap=math.inf)
