"""Any two classes that a reader of a measurement's page names."""

import math
from collections.abc import Sequence
from typing import Any

from bisector.measurement.classes import hardest
from bisector.measurement.measurement import Measurement
from bisector.report.tested_classes import accuracy_told
from bisector.report.words import distance, number


def two_classes(found: Measurement) -> dict[str, Any]:
    """What the page's script says of any two classes that a reader names: data of the classes and of pairs.

    Of many classes only pairs are known that are near each other or were confused.
    """
    classes = found.classes
    place = {one.name: c for c, one in enumerate(classes)}
    kept = [[place[a], place[b], n] for a, own in found.mistakes.items() for b, n in own.items()]
    if found.angles:
        degrees, distances = _upper(found.angles), _upper(found.squared_distances)
    else:
        degrees = [(place[p.first], place[p.second], p.degrees) for p in found.nearest]
        distances = [
            (c, place[one.neighbour], one.squared_distance) for c, one in enumerate(classes) if one.neighbour
        ]
    known = all(sum(found.mistakes.get(one.name, {}).values()) == one.errors for one in classes)
    return {
        "names": [one.name for one in classes],
        "facts": [
            [f"{one.count:,}" for one in classes],
            [number(one.amount) for one in classes],
            [f"{one.tested:,}" for one in classes],
            [accuracy_told(one) for one in classes],
        ],
        "taken": kept,
        "all": bool(found.tested_on) and known,
        "degrees": [[a, b, number(value)] for a, b, value in degrees],
        "distances": [[a, b, distance(value)] for a, b, value in distances],
        "start": _start(found, place),
    }


def _upper(matrix: Sequence[Sequence[float]]) -> list[tuple[int, int, float]]:
    cells = ((a, b, matrix[a][b]) for a in range(len(matrix)) for b in range(a + 1, len(matrix)))
    return [cell for cell in cells if math.isfinite(cell[2])]


def _start(found: Measurement, place: dict[str, int]) -> list[int]:
    """The pair that is shown before a reader names one: that of the hardest class and what it is taken for."""
    for one in hardest(found.classes):
        other = one.mistaken_for or one.neighbour
        if other:
            return [place[one.name], place[other]]
    for pair in [*found.confused, *found.nearest]:
        return [place[pair.first], place[pair.second]]
    return [0, 1]
