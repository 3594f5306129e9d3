"""The warning that classes are too small for their amounts to be read."""

from collections.abc import Sequence

from bisector.measurement.classes import FEWEST, ClassMeasure, fewest_rows

_NAMED = 5
_LONGEST = 40  # letters of a name


def small_note(classes: Sequence[ClassMeasure], dimensions: int) -> str:
    """Which classes are too small, and how many of those that have rows; empty if none is.

    >>> small_note([ClassMeasure("owl", 9, 0, 4.0, 0.5, 0.5), ClassMeasure("wren", 70, 0, 5.0, 0.5, 0.5)], 64)
    '1 of 2 classes has fewer than 13 rows (owl): its amount says more about its number of rows than about it.'
    """
    fewest = fewest_rows(dimensions)
    there = [one for one in classes if one.count]
    small = sorted((one for one in there if one.count < fewest), key=lambda one: one.count)
    if not small:
        return ""
    has, its, says, it = (
        ("has", "its", "amount says", "it") if len(small) == 1 else ("have", "their", "amounts say", "them")
    )
    eighth = ", an eighth of the dimensions" if fewest > FEWEST else ""
    return (
        f"{len(small):,} of {len(there):,} classes {has} fewer than {fewest} rows{eighth} ({some(small)}): {its} "
        f"{says} more about {its} number of rows than about {it}."
    )


def some(classes: Sequence[ClassMeasure]) -> str:
    """The names of the first few.

    >>> some([ClassMeasure(name, 1, 0, 0.0, 0.0, 0.0) for name in "abcdefg"])
    'a, b, c, d, e and 2 more'
    """
    names = [
        one.name if len(one.name) <= _LONGEST else f"{one.name[: _LONGEST - 1]}…" for one in classes[:_NAMED]
    ]
    more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    return ", ".join(names) + more
