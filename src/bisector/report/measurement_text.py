"""A measurement as text for a terminal."""

import math
from collections.abc import Sequence

from bisector.measurement.classes import hardest
from bisector.measurement.confusion import Pair
from bisector.measurement.measurement import Measurement
from bisector.report.names import shorten

_NAME = 28
_MOST = 10


def format_measurement(measurement: Measurement) -> str:
    """The measurement in a page of text: what it is of, the hardest classes, pairs, suspects, and the next step."""
    blocks = [
        "\n".join(_head(measurement)),
        _classes(measurement),
        _correlations(measurement),
        _pairs(measurement),
        _suspects(measurement),
        _duplicates(measurement),
        _verification(measurement),
        "\n".join(f"Note: {note}" for note in measurement.notes),
        "\n".join(f"Left out: {plain(line)}" for line in _few(measurement.left_out)),
        _next(measurement),
    ]
    return "\n\n".join(filter(None, blocks))


def plain(text: str) -> str:
    r"""The text without characters that would steer a terminal.

    >>> plain("a\x1b[2Jb")
    'a�[2Jb'
    """
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def percent(share: float) -> str:
    """A share as a percentage with one decimal; a dash for NaN.

    >>> percent(0.125), percent(float("nan"))
    ('12.5', '–')
    """
    return f"{100 * share:.1f}" if math.isfinite(share) else "–"


def significant(value: float) -> str:
    """A probability with two significant digits.

    >>> significant(0.5), significant(0.0123), significant(4e-12)
    ('0.50', '0.012', '4.0e-12')
    """
    if not math.isfinite(value):
        return "–"
    if 0 < value < 1e-4:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits}e{int(power)}"
    return f"{value:#.2g}" if value < 0.995 else f"{value:.2f}"


def number(value: float, decimals: int = 1) -> str:
    """A number; a dash for NaN."""
    return f"{value:.{decimals}f}".replace("-", "−") if math.isfinite(value) else "–"


def count(amount: int, noun: str) -> str:
    """How many, as in "1 row", "2 rows", "3 classes"."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{amount:,} {noun}{plural * (amount != 1)}"


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
    return lines


def _classes(found: Measurement) -> str:
    ranked = hardest(found.classes)
    title = "Hardest classes" if ranked else "Classes with the largest amounts"
    amounts = [one for one in found.classes if math.isfinite(one.amount)]
    ranked = ranked or sorted(amounts, key=lambda one: -one.amount)
    rows = [
        [_name(one.name), str(one.count), number(one.amount), percent(one.accuracy), number(one.loss, 2)]
        for one in ranked[:_MOST]
    ]
    return _table([title, "rows", "amount, bits", "accuracy, %", "loss"], rows)


def _correlations(found: Measurement) -> str:
    r = found.correlations
    if math.isnan(r.amount_accuracy) and math.isnan(r.count_accuracy):
        return ""
    rows = [
        (
            "amount and accuracy",
            _r(r.amount_accuracy),
            "log count held fixed",
            _r(r.amount_accuracy_given_count),
        ),
        (
            "log count and accuracy",
            _r(r.count_accuracy),
            "amount held fixed",
            _r(r.count_accuracy_given_amount),
        ),
    ]
    if math.isfinite(r.chance_partial):
        rows.append(("one in 20 by chance", f"±{r.chance:.2f}", "", f"±{r.chance_partial:.2f}"))
    lines = [f"  {name:<22}  {plain}  {fixed:<20}  {partial}" for name, plain, fixed, partial in rows]
    return "\n".join([f"Correlations over {count(r.classes, 'class')}:", *lines])


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
    if not same.groups:
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
    return f"{value:+.2f}".replace("-", "−") if math.isfinite(value) else "    –"


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
