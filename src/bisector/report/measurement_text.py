"""A measurement as text for a terminal."""

import math
from collections.abc import Sequence

from bisector.measurement.classes import hardest
from bisector.measurement.confusion import Pair
from bisector.measurement.measurement import Measurement
from bisector.measurement.score_measures import EQUAL
from bisector.posthoc.trial import Trials
from bisector.report.measurement_numbers import count, error, number, percent, significant
from bisector.report.names import shorten
from bisector.report.score_words import sentences, titled
from bisector.statistics.bootstrap import Estimate

_NAME = 28
_MOST = 10


def format_measurement(measurement: Measurement) -> str:
    """The measurement in a page of text: what it is of, the hardest classes, pairs, suspects, and the next step."""
    blocks = [
        "\n".join(_head(measurement)),
        _classes(measurement),
        *_scores(measurement),
        _trials(measurement),
        _pairs(measurement),
        _suspects(measurement),
        _duplicates(measurement),
        _verification(measurement),
        "\n".join(f"Note: {plain(note)}" for note in measurement.notes),
        "\n".join(f"Left out: {plain(line)}" for line in _few(measurement.left_out)),
        _next(measurement),
    ]
    return "\n\n".join(filter(None, blocks))


def amounts_of(found: Measurement) -> str:
    """What amounts are of, in words: the scale of the embeddings and the shrinkage."""
    scale = "as they are" if found.embeddings == "raw" else "every row at length √D"
    return f"Amounts are of {found.embeddings} embeddings ({scale}), with the shrinkage {found.shrinkage}"


def plain(text: str) -> str:
    r"""The text without characters that would steer a terminal.

    >>> plain("a\x1b[2Jb")
    'a�[2Jb'
    """
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _head(found: Measurement) -> list[str]:
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
    return [*lines, amounts_of(found)]


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


def _scores(found: Measurement) -> list[str]:
    blocks = []
    for score in found.scores:
        lines = [f"{plain(titled(score))}, correlations over the classes (95 % intervals)"]
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
        blocks.append("\n".join([*lines, *(plain(line) for line in sentences(score) if line)]))
    return blocks


TRIAL_HEADINGS = ("balanced, %", "gain, points", "accuracy, %", "gain, points")


def trial_rows(found: Trials) -> list[list[str]]:
    """The scores as they are, then each adjustment that was tried: its name, and the cells of `TRIAL_HEADINGS`."""
    rows = [["as they are", percent(found.balanced_accuracy), "–", percent(found.accuracy), "–"]]
    rows += [
        [
            trial.name,
            percent(trial.balanced_accuracy),
            points(trial.gain),
            percent(trial.accuracy),
            points(trial.accuracy_gain),
        ]
        for trial in found.tried
    ]
    return rows


def points(gain: Estimate) -> str:
    """A gain in percentage points with its interval.

    >>> points(Estimate(0.131, 0.08, 0.18)), points(Estimate(-0.01))
    ('+13.1 (+8.0 to +18.0)', '−1.0')
    """
    low, high = (f"{100 * end:+.1f}" for end in (gain.low, gain.high))
    interval = f" ({low} to {high})" if math.isfinite(gain.low) else ""
    return f"{100 * gain.value:+.1f}{interval}".replace("-", "−")


def trials_told(found: Trials) -> str:
    """What comes of the adjustments that were tried, how they were, and why others were not, in words."""
    how = (
        "Cross-validated: no row is judged by what was fitted on it. In 95 of 100 cases all of these intervals "
        "hold the truth (BCa bootstrap over the rows)."
    )
    if found.best is None:
        how = f"Leave the scores as they are: no gain lies clearly above 0. {how}"
    return " ".join(
        [*([how] if found.tried else []), *(f"Not tried: {one}" for one in _few(found.not_tried))]
    )


def _trials(found: Measurement) -> str:
    if found.trials is None or not found.trials.tried:
        return ""  # the steps say why
    title = f"Adjustments tried on {found.trials.on}"
    return f"{_table([title, *TRIAL_HEADINGS], trial_rows(found.trials))}\n{plain(trials_told(found.trials))}"


def _estimate(one: Estimate) -> str:
    interval = f" ({_r(one.low)} to {_r(one.high)})" if math.isfinite(one.low) else ""
    return f"{_r(one.value)}{interval}" if math.isfinite(one.value) else "–"


def not_looked_for(found: Measurement) -> str:
    """Why a streamed measurement has no label errors and no duplicates, in words."""
    return (
        "Not looked for: the table was streamed. --engine memory looks for them, and needs memory for "
        f"all {count(found.rows, 'row')}."
    )


def _pairs(found: Measurement) -> str:
    if found.confused:
        rows = [
            [
                _pair(p.first, p.second),
                taken(p.first_as_second, p.first_tested),
                taken(p.second_as_first, p.second_tested),
                mean_share(p),
            ]
            for p in found.confused[:5]
        ]
        return _table(["Pairs most confused, A – B", "A as B", "B as A", "mean share, %"], rows)
    rows = [[_pair(p.first, p.second), number(p.degrees)] for p in found.nearest[:5]]
    return _table(["Nearest pairs of classes", "degrees"], rows) if rows else ""


def taken(rows: int, tested: int) -> str:
    """How many rows of a class were taken for the other; a dash where none was tested."""
    return f"{rows:,}" if tested else "–"


def mean_share(pair: Pair) -> str:
    """The mean share of two classes in percent, or what it is at least where one was not tested.

    >>> mean_share(Pair("a", "b", 2, 1, 4, 2, share=0.5)), mean_share(Pair("a", "b", 2, 0, 4, 0, share=0.25))
    ('50.0', '≥ 25.0')
    """
    return percent(pair.share) if pair.both_tested else f"≥ {percent(pair.share)}"


def _suspects(found: Measurement) -> str:
    errors = found.label_errors
    if errors is None:
        return f"Label errors and duplicates: {not_looked_for(found)}"
    if not errors.suspects:
        return ""
    rows = [
        [_end(one.name), _name(one.label), _name(one.suggested), significant(one.confidence)]
        for one in errors.suspects[:5]
    ]
    title = f"{len(errors.suspects)} of {errors.judged} labels are suspect"
    if not errors.trusted:
        return f"{title}, by a judge that is unreliable: it agrees with {percent(errors.agreement)} % of the labels"
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
        f"Classes never trained on, every pair by cosine: {verified_pairs(found)}",
        f"  EER {percent(verified.eer)} % at {number(verified.eer_threshold, 3)}",
        *(
            f"  TAR {percent(tar)} % at FAR {far:g}, threshold {number(verified.thresholds[far], 3)}"
            for far, tar in verified.tar.items()
            if math.isfinite(tar)
        ),
    ]
    return "\n".join(lines)


def verified_pairs(found: Measurement) -> str:
    """What was verified, in words; empty if nothing was."""
    verified = found.verification
    if verified is None:
        return ""
    return (
        f"{verified.genuine_pairs:,} genuine and {verified.impostor_pairs:,} impostor pairs of "
        f"{count(verified.embeddings, 'row')} in {count(verified.classes, 'class')}"
    )


def _next(found: Measurement) -> str:
    step = found.step
    lines = [f"Next: {step.title}", step.reason, *([step.lead, step.command] if step.command else [])]
    return "\n  ".join(plain(line) for line in lines if line)


def _few(lines: Sequence[str]) -> list[str]:
    more = [f"{len(lines) - _MOST} more; measure.json names them"] if len(lines) > _MOST else []
    return [*lines[:_MOST], *more]


def _pair(first: str, second: str) -> str:
    return f"{_name(first)} – {_name(second)}"


def _name(text: str) -> str:
    return shorten(plain(" ".join(text.split())), _NAME)


def _end(text: str) -> str:
    """The end of a path, which tells more than its beginning."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= 2 * _NAME else f"…{line[1 - 2 * _NAME :]}"


def _r(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text left, numbers right; a column whose cells are dashes alone is left out."""
    kept = [k for k in range(len(headings)) if k == 0 or any(row[k] != "–" for row in rows)]
    lines = [[headings[k] for k in kept], *([row[k] for k in kept] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(kept))]
    heading, *body = (_line(line, widths) for line in lines)
    return "\n".join([heading, "─" * (sum(widths) + 2 * (len(widths) - 1)), *body])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first.strip().ljust(widths[0]), *others]).rstrip()
