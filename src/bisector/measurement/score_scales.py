"""What unit the columns of a table of scores are in: told by their names and ranges, and said to the reader."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

Scale: TypeAlias = Literal["fraction", "percent", "own"]

_COUNTING = "count counts id ids idx index instances n num number rank row rows samples support"
_NO_SHARE = (
    "bits cost distance distances divergence drift entropy kl loss losses mae mse "
    "nats nll norm perplexity ppl rmse seconds time"
)


def counts_something(name: str) -> bool:
    """Whether a column is, by its name, a number or a count of its class and no score.

    >>> [counts_something(name) for name in ("id", "image_count", "numRows", "n", "AP", "identity")]
    [True, True, True, True, False, False]
    """
    words = _words(name)
    return bool(words) and (words[-1] in _COUNTING.split() or words[0] in {"n", "num", "number"})


def scales_of(columns: Mapping[str, Sequence[float]]) -> dict[str, Scale]:
    """The scale of every column of one table, NaN and -1 for a class without a score aside.

    What lies between 0 and 1 is taken for fractions, what reaches beyond 1 up to 100 for percentages; all else, and
    a loss or a distance by its name, is in its own unit. Columns of one family, as AP, AP50 and APr, are in one
    unit: where one of them is in percent, so are those that happen to be small.

    >>> scales_of({"AP": [41.0, 7.5], "APr": [0.4, 0.9], "recall": [0.2, 1.0], "loss": [0.7, 2.5]})
    {'AP': 'percent', 'APr': 'percent', 'recall': 'fraction', 'loss': 'own'}
    """
    found = {name: _scale(name, values) for name, values in columns.items()}
    in_percent = {_family(name) for name, scale in found.items() if scale == "percent"}
    return {
        name: "percent" if scale == "fraction" and _family(name) in in_percent else scale
        for name, scale in found.items()
    }


def scale_note(source: str, scales: Mapping[str, Scale]) -> str:
    """What was guessed, in a sentence.

    >>> scale_note("ap.csv", {"AP": "percent", "recall": "fraction"})
    'ap.csv: read AP as percentages; recall as fractions of 1. That is a guess from names and values.'
    """
    told = {"percent": "as percentages", "fraction": "as fractions of 1", "own": "in a unit of its own"}
    names = {kind: ", ".join(name for name, scale in scales.items() if scale == kind) for kind in told}
    parts = [f"{names[kind]} {words}" for kind, words in told.items() if names[kind]]
    return f"{source}: read {'; '.join(parts)}. That is a guess from names and values."


def _scale(name: str, values: Sequence[float]) -> Scale:
    known = [value for value in values if not math.isnan(value)]
    if not known or min(known) < 0 or max(known) > 100 or set(_NO_SHARE.split()) & set(_words(name)):
        return "own"
    return "percent" if max(known) > 1 else "fraction"


def _family(name: str) -> str:
    """What the names of one kind of score begin with: capitals, or a word."""
    found = re.match(r"[a-z]?[A-Z]{2,}|[^\W\d_]+", name.strip())
    return found[0] if found else name


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
