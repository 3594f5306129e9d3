"""What a detector takes the objects of the hardest classes for."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bisector.report.detection_classes import class_ap
from bisector.report.detection_matches import OVERLAP, Matches
from bisector.report.detection_run import DetectionRun, by_head, same_data
from bisector.report.measurement_parts import TEXT, cell, escape, name_style, section, table
from bisector.report.names import head_label
from bisector.report.numbers import percent

if TYPE_CHECKING:
    from bisector.data.boxes.box_set import BoxSet

_MOST = 12
_OTHERS = 3  # classes that one is taken for
_WIDE = TEXT.replace("7rem", "9rem")


def hardest_section(
    truth: "BoxSet", runs: Sequence[DetectionRun], matches: Mapping[str, Sequence[Matches]], level: float
) -> str:
    """The classes with the lowest AP: how many of their objects each head finds, and what it takes the rest for.

    Args:
        truth: the pictures.
        runs: all of them.
        matches: of the first run of each head, on every picture.
        level: the score from which a detection counts.
    """
    scores, ap = runs[0].scores, class_ap(same_data(runs))
    known = [c for c, value in enumerate(ap) if math.isfinite(value)]
    hard = sorted(known, key=lambda c: (ap[c], -scores.class_boxes[c]))[:_MOST]
    if not hard:
        return ""
    fates = {head: class_fates(truth, found, level) for head, found in matches.items()}
    style = name_style([scores.class_names[c] for c in hard])
    rows = ""
    for c in hard:
        name = scores.class_names[c]
        told = (_told(c + 1, fates[head].get(c + 1, Counter()), scores.class_names) for head in matches)
        cells = "".join(cell(text, _WIDE) for text in told)
        rows += f"<tr>{cell(name, style)}<td>{percent(ap[c])}</td>{cells}</tr>"
    single = len(matches) == 1
    headings = ["Class", "AP", *(["Found"] if single else (escape(head_label(head)) for head in matches))]
    seeds = " First seed." if len(runs) > len(by_head(runs)) else ""
    return section(
        "hardest",
        "The hardest classes and what they are taken for",
        f"The lowest AP first. Found are objects with a detection of their class whose score is at least "
        f"{level:g} and whose overlap is at least {OVERLAP:g}. One that is missed is taken for the class with the "
        f"highest such score on it, or for nothing.{seeds}",
        table(headings, rows, (0, *range(2, len(headings))), "Hardest classes"),
    )


def class_fates(truth: "BoxSet", matches: Sequence[Matches], level: float) -> dict[int, Counter[int]]:
    """By label, for how many of its objects which label was taken: its own for those found, 0 for none."""
    fates: dict[int, Counter[int]] = {}
    for picture, found in zip(truth.pictures, matches, strict=True):
        labels, missed = picture.labels.tolist(), set(found.missed(level))
        for k, place in enumerate(found.truths):
            label, other = labels[place], found.taken_for[k]
            taken = other[0] if other is not None and other[1] >= level else 0
            fates.setdefault(label, Counter())[taken if k in missed else label] += 1
    return fates


def _told(label: int, fate: Counter[int], names: Sequence[str]) -> str:
    """As in "3 of 12; wolf 5, fox 1, nothing 3"."""
    others = sorted(
        ((n, other) for other, n in fate.items() if other not in (0, label)), key=lambda x: (-x[0], x[1])
    )
    parts = [f"{names[other - 1]} {n:,}" for n, other in others[:_OTHERS]]
    rest = sum(n for n, _ in others[_OTHERS:])
    parts += [f"others {rest:,}"] if rest else []
    parts += [f"nothing {fate[0]:,}"] if fate[0] else []
    found = f"{fate[label]:,} of {fate.total():,}"
    return f"{found}; {', '.join(parts)}" if parts else found
