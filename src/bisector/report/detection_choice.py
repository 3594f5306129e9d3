"""Which pictures a person should look at: some with rare classes, some where heads differ, some for no reason."""

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from bisector.report.detection_matches import Matches, Verdict

if TYPE_CHECKING:
    from bisector.data.boxes.box_set import BoxSet

_CROWDED = 12  # objects; more in one picture cannot be told apart


def choose_pictures(
    truth: "BoxSet", matches: Sequence[Sequence[Matches]], counts: Sequence[float], level: float
) -> Iterator[tuple[int, str]]:
    """Positions of pictures and why each was chosen, the first ones first, no picture twice.

    Three lists take turns: pictures with the rarest classes, a class at a time; those where the heads differ
    most in what they find, or of a single head those with most mistakes; and pictures that are spread evenly
    over the data set, chosen for nothing that is in them.

    Args:
        truth: the pictures.
        matches: of each run, on every picture.
        counts: training boxes of every class.
        level: the score from which a detection counts.
    """
    rare = _rare(truth, counts)
    telling = _telling(truth, matches, level)
    spread = ((i, "chosen blindly") for i in _spread(len(truth.pictures)))
    done = set()
    for turn in zip_longest(rare, telling, spread):
        for choice in turn:
            if choice is not None and choice[0] not in done:
                done.add(choice[0])
                yield choice


def _rare(truth: "BoxSet", counts: Sequence[float]) -> Iterator[tuple[int, str]]:
    """The classes from the rarest on, those never trained on last; of each the picture with the fewest objects."""
    of_class: dict[int, list[int]] = {}
    for i, picture in enumerate(truth.pictures):
        for label in set(picture.labels[~picture.crowd].tolist()):
            of_class.setdefault(label, []).append(i)
    trained = {label: counts[label - 1] for label in of_class}
    if not any(map(math.isfinite, trained.values())) or len(set(trained.values())) < 2:
        return
    for label in sorted(of_class, key=lambda label: (trained[label] == 0, trained[label], label)):
        best = min(of_class[label], key=lambda i: (len(truth.pictures[i].labels), i))
        count = f"{trained[label]:,.0f} training box{'es' * (trained[label] != 1)}"
        yield best, f"has {truth.class_names[label - 1]}: {count}"


def _telling(
    truth: "BoxSet", matches: Sequence[Sequence[Matches]], level: float
) -> Iterator[tuple[int, str]]:
    def differ(i: int) -> float:
        missed: list[set[int]] = [set(run[i].missed(level)) for run in matches]
        some = missed[0].union(*missed) - missed[0].intersection(*missed)
        return len(some) / math.sqrt(max(len(matches[0][i].truths), 1))

    def mistakes(i: int) -> float:
        one = matches[0][i]
        false = sum(x.verdict not in (Verdict.RIGHT, Verdict.UNJUDGED) for x in one.shown(level))
        return (len(one.missed(level)) + false) / math.sqrt(len(one.truths) + 1)

    value, why = (differ, "the heads differ") if len(matches) > 1 else (mistakes, "many mistakes")
    values = {i: value(i) for i in range(len(truth.pictures)) if len(truth.pictures[i].labels) <= _CROWDED}
    for i in sorted(values, key=lambda i: (-values[i], i)):
        if values[i] > 0:
            yield i, why


def _spread(size: int) -> Iterator[int]:
    """Every position once, far from those before it: the fractions of the golden ratio."""
    seen = set()
    for k in range(20 * size):
        i = int((0.5 + k * 0.6180339887498949) % 1 * size)
        if i not in seen:
            seen.add(i)
            yield i
