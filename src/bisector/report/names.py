"""What heads and classes are called on the page and in the terminal."""

import html

from bisector.errors import require
from bisector.heads import HEADS, LogitAdjusted

_ABOUT_TAU = "; plus tau times the logarithm of the class frequencies in training"


def head_label(head: str) -> str:
    """The name of a head for readers, with its options in parentheses.

    Options that are words speak for themselves; numbers keep the name of the option.

    Args:
        head: as on the command line, `name[:option=value[:option=value...]]`.

    >>> head_label("enhanced-am-softmax")
    'Enhanced AM-softmax'
    >>> head_label("igam:preset=paper:max_margin=0.3")
    'IGAM (paper, max margin 0.3)'
    >>> head_label("combined-margin:learnable=True")
    'Combined margin (learnable)'
    """
    name, *options = head.strip().split(":")
    label = HEADS[name].label if name in HEADS else name.replace("-", " ").capitalize()
    return f"{label} ({', '.join(map(_option_label, options))})" if options else label


def head_summary(head: str) -> str:
    """What a head is, in a line; empty for a name that is not known.

    >>> head_summary("igam:preset=paper")
    'margins for pairs of classes, guided by their information amounts; settings of the paper'
    >>> head_summary("normalized-softmax:tau=1").rpartition("; ")[2]
    'plus tau times the logarithm of the class frequencies in training'
    """
    name, *options = head.strip().split(":")
    if name not in HEADS:
        return ""
    kind = HEADS[name]
    about = next((kind.summary_of_options[o] for o in options if o in kind.summary_of_options), kind.summary)
    adjusted = any(option.startswith("tau=") for option in options) and kind is not LogitAdjusted
    return about + _ABOUT_TAU if adjusted else about


def _option_label(option: str) -> str:
    key, _, value = option.partition("=")
    words = key.replace("_", " ")
    if value in {"", "True"}:
        return words
    return value if value.isidentifier() and value not in {"False", "None"} else f"{words} {value}"


def shorten(text: str, limit: int) -> str:
    """The text on one line and at most `limit` characters long, an ellipsis at the end if some are lost.

    >>> shorten("Enhanced  AM-softmax", 10)
    'Enhanced…'

    Raises:
        ArgumentError: if not even the ellipsis fits.
    """
    require(limit >= 1, "limit", limit, "at least 1")
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


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
