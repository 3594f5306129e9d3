"""How numbers, heads and classes are written, on every page and in a terminal."""

import html
import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from bisector.errors import require
from bisector.heads import HEADS, LogitAdjusted
from bisector.training.results import WITH


def number(value: float, decimals: int = 1, sign: str = "") -> str:
    """A number with the minus sign of typography; a dash for NaN.

    >>> number(-0.25, 2), number(1.04, sign="+"), number(float("nan"))
    ('−0.25', '+1.0', '–')
    """
    return f"{value:{sign}.{decimals}f}".replace("-", "−") if math.isfinite(value) else "–"


def percent(share: float) -> str:
    """A share as a percentage with one decimal; a dash for NaN.

    >>> percent(0.125), percent(float("nan"))
    ('12.5', '–')
    """
    return number(100 * share)


def whole(value: float) -> str:
    """A count; a dash for NaN.

    >>> whole(1203), whole(float("nan"))
    ('1,203', '–')
    """
    return f"{value:,.0f}" if math.isfinite(value) else "–"


def significant(value: float) -> str:
    """A probability with two significant digits.

    >>> significant(0.5), significant(0.0123), significant(4e-12)
    ('0.50', '0.012', '4.0e-12')
    """
    if 0 < value < 1e-4:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits}e{int(power)}"
    return f"{value:#.2g}" if value < 0.995 else number(value, 2)


def distance(value: float) -> str:
    """A squared distance, which may be huge where a network maps each class to nearly one point.

    >>> distance(-1.25), distance(41234.5), distance(2.5e13), distance(math.nan)
    ('−1.2', '41,234', '2.5e13', '–')
    """
    if abs(value) >= 1e7:
        return f"{value:.1e}".replace("e+", "e")
    return f"{value:,.0f}" if abs(value) >= 1000 else number(value)


def error(value: float) -> str:
    """An error in bits; a plain 0 where it is exact, a dash where it is not known.

    >>> error(0.0), error(0.125), error(3e-7), error(float("nan"))
    ('0', '0.12', '3.0e-7', '–')
    """
    if 0 < value < 0.01:
        return significant(value)
    return number(value, 2) if value else "0"


def count(amount: int, noun: str) -> str:
    """How many, as in "1 row", "2 rows", "3 classes"."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{amount:,} {noun}{plural * (amount != 1)}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours, as a person would say it.

    >>> duration(42.3), duration(75), duration(7500)
    ('42 s', '1 min 15 s', '2 h 05 min')
    """
    rounded = round(seconds)
    if rounded < 60:
        return f"{seconds:.0f} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"


def head_label(head: str) -> str:
    """The name of a head for readers, with its options in parentheses: `name[:option=value[:option=value...]]`.

    Options that are words speak for themselves; numbers keep the name of the option.

    >>> head_label("enhanced-am-softmax")
    'Enhanced AM-softmax'
    >>> head_label("igam:preset=paper:max_margin=0.3")
    'IGAM (paper, max margin 0.3)'
    >>> head_label("combined-margin:learnable=True")
    'Combined margin (learnable)'
    >>> head_label("combined-margin:learnable=True + geometry")
    'Combined margin (learnable) + geometry'
    """

    def label_of(option: str) -> str:
        key, _, value = option.partition("=")
        words = key.replace("_", " ")
        if value in {"", "True"}:
            return words
        return value if value.isidentifier() and value not in {"False", "None"} else f"{words} {value}"

    spec, plus, method = head.partition(WITH)
    name, *options = spec.strip().split(":")
    label = HEADS[name].label if name in HEADS else name.replace("-", " ").capitalize()
    told = f" ({', '.join(map(label_of, options))})" if options else ""
    return f"{label}{told}{plus}{method}"


def head_summary(head: str) -> str:
    """What a head is, in a line; empty for a name that is not known.

    >>> head_summary("igam:preset=paper")
    'margins for pairs of classes, guided by their information amounts; settings of the paper'
    >>> head_summary("normalized-softmax:tau=1").rpartition("; ")[2]
    'plus tau times the logarithm of the class frequencies in training'
    """
    head, _, method = head.partition(WITH)
    if method:
        return f"the same networks, decided by {method}, fitted on the validation part"
    name, *options = head.strip().split(":")
    if name not in HEADS:
        return ""
    kind = HEADS[name]
    about = next((kind.summary_of_options[o] for o in options if o in kind.summary_of_options), kind.summary)
    if kind is not LogitAdjusted and any(option.startswith("tau=") for option in options):
        about += "; plus tau times the logarithm of the class frequencies in training"
    return about


def shorten(text: str, limit: int) -> str:
    """The text on one line and at most `limit` characters long, an ellipsis at the end if some are lost.

    What a head is decided by, behind a plus sign, tells two rows apart, so it stays.

    >>> shorten("Enhanced  AM-softmax", 10), shorten("Enhanced AM-softmax + geometry", 22)
    ('Enhanced…', 'Enhanced A… + geometry')
    """
    require(limit >= 1, "limit", limit, "at least 1")
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    end = line[line.rfind(WITH) :] if WITH in line else ""
    end = end if len(end) <= limit // 2 else ""
    return f"{line[: limit - 1 - len(end)].rstrip()}…{end}"


def short_names(names: Sequence[str], limit: int) -> list[str]:
    """Names of at most `limit` letters that are told apart: a beginning that all share goes first.

    Where no name is longer they stay as they are. A long name keeps the letters from which on it differs from all
    others, or where that makes two alike its beginning and its end.

    >>> short_names(["photos/of birds/owl", "photos/of birds/wren"], 12)
    ['…owl', '…wren']
    >>> short_names(["the wren of the north", "the wren of the south", "owl"], 12)
    ['…the north', '…the south', 'owl']
    >>> short_names(["monocrystalline-1", "monocrystalline-2", "polycrystalline-1", "polycrystalline-2"], 9)
    ['mono…ne-1', 'mono…ne-2', 'poly…ne-1', 'poly…ne-2']
    """
    if max(map(len, names), default=0) <= limit:
        return list(names)
    lines = [" ".join(name.split()) for name in names]
    if len(lines) > 1:
        shared = len(re.sub(r"[^/\\ _.:-]*$", "", min(lines)[: _alike(min(lines), max(lines))]))
        if shared > 1 and all(len(line) > shared for line in lines):
            lines = [f"…{line[shared:]}" for line in lines]
    order, differs = sorted(range(len(lines)), key=lines.__getitem__), [0] * len(lines)
    for one, other in pairwise(order):
        shared = _alike(lines[one], lines[other])
        differs[one], differs[other] = max(differs[one], shared), max(differs[other], shared)
    found = [_window(line, limit, place) for line, place in zip(lines, differs, strict=True)]
    often, half = Counter(found), (limit - 1) // 2
    return [
        f"{line[: limit - 1 - half]}…{line[-half:]}" if often[name] > 1 and len(line) > limit > 2 else name
        for line, name in zip(lines, found, strict=True)
    ]


def _window(line: str, limit: int, place: int) -> str:
    """A line cut to `limit` letters, of which one is the letter at a place."""
    if len(line) <= limit or place < limit - 1:
        return shorten(line, limit)
    start = min(place - limit // 3, len(line) - limit + 1)
    part = line[start:]
    word = part.find(" ") + 1
    part = part[word:] if start + word <= place else part
    return f"…{shorten(part, limit - 1)}"


def _alike(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    return next(
        (k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def plain(text: str) -> str:
    r"""The text without characters that would steer a terminal.

    >>> plain("a\x1b[2Jb")
    'a�[2Jb'
    """
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def plot_text(text: str, limit: int = 60) -> str:
    """The text as plotly shows it literally: plotly reads tags and entities in every label.

    >>> plot_text("<b>cats</b> & dogs")
    '&lt;b&gt;cats&lt;/b&gt; &amp; dogs'
    """
    return html.escape(shorten(text, limit), quote=False)
