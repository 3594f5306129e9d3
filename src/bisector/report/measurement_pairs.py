"""Pairs of classes on a measurement's page: what is taken for what, and any two classes that a reader names."""

import math
from collections.abc import Sequence
from typing import Any

from bisector.measurement.classes import ClassMeasure, hardest
from bisector.measurement.confusion import FEW_CLASSES
from bisector.measurement.measurement import Measurement
from bisector.report.parts import ACCENT, PAPER, Figure, Json, heatmap
from bisector.report.table import Cell, Column, Table
from bisector.report.words import distance, number, percent, plot_text, short_names, whole

_LETTERS = 14  # of a name beside the matrix
_ROW = 16  # pixels of a row of the matrix, at least
_SMALL = 12  # classes up to which the matrix is as wide as the screen of a telephone


def matrix_classes(found: Measurement) -> list[int]:
    """The classes of the matrix, in their order: all, or of many those that are confused most."""
    if len(found.classes) <= FEW_CLASSES:
        return list(range(len(found.classes)))
    place = {one.name: c for c, one in enumerate(found.classes)}
    pairs = [(rows, one, other) for one, own in found.mistakes.items() for other, rows in own.items()]
    names = [name for _, *both in sorted(pairs, key=lambda pair: -pair[0]) for name in both]
    return sorted(place[name] for name in list(dict.fromkeys(names))[:FEW_CLASSES])


def matrix_counts(found: Measurement, chosen: Sequence[int]) -> list[list[int]]:
    """How many tested rows of each of some classes were taken for each of them."""
    classes, counts = [found.classes[c] for c in chosen], []
    for one in classes:
        own = found.mistakes.get(one.name, {})
        right = one.tested - one.errors
        counts.append([right if one is other else own.get(other.name, 0) for other in classes])
    return counts


def matrix_figure(found: Measurement) -> Figure | None:
    """A row for each class, coloured by the share of its rows that was taken for each; None without mistakes."""
    if not found.mistakes:
        return None
    chosen = matrix_classes(found)
    classes = [found.classes[c] for c in chosen]
    counts = matrix_counts(found, chosen)
    shares = [
        [100 * n / one.tested if one.tested else math.nan for n in row]
        for one, row in zip(classes, counts, strict=True)
    ]
    names = [plot_text(name, _LETTERS) for name in short_names([one.name for one in classes], _LETTERS)]
    whole_names = [plot_text(one.name) for one in classes]
    hover = [
        [
            f"{mine}<br>taken for {other}: {n:,} of {one.tested:,}"
            if mine != other
            else f"{mine}<br>right: {n:,}"
            for other, n in zip(whole_names, row, strict=True)
        ]
        for mine, one, row in zip(whole_names, classes, counts, strict=True)
    ]
    ticks: dict[str, Json] = {
        "tickvals": list(range(len(names))),
        "ticktext": names,
        "tickfont": {"size": 11 if len(names) <= 30 else 9},
        "showgrid": False,
        "zeroline": False,
    }
    trace = heatmap(
        shares,
        gap=1,
        customdata=hover,
        hovertemplate="%{customdata}<br>%{z:.1f} %<extra></extra>",
        zmin=0,
        zmax=100,
        # One hue, darker by share; a few percent are told from none.
        colorscale=[[0, PAPER], [0.02, "<--low>"], [0.2, "<--middle>"], [0.6, "<--high>"], [1, ACCENT]],
        colorbar={"title": {"text": "%", "side": "top"}, "thickness": 8, "outlinewidth": 0, "xpad": 4},
    )
    return Figure(
        "confusion",
        title="Rows of each class (down) by what they were taken for (across), % of the class",
        description="A matrix of classes; the table below has the counts.",
        data=[trace],
        layout={
            "xaxis": {**ticks, "tickangle": -60 if len(names) > _SMALL else -45, "side": "bottom"},
            "yaxis": {**ticks, "autorange": "reversed"},
        },
        height=max(320, 110 + _ROW * len(names)),
        wide=len(names) > _SMALL,
    )


def matrix_table(found: Measurement) -> Table:
    """The same as numbers; an empty cell is 0."""
    chosen = matrix_classes(found)
    names = [found.classes[c].name for c in chosen]
    short = short_names(names, _LETTERS)
    columns = [Column("Class", "name"), *(Column(name) for name in short)]
    rows = (
        [Cell(name, title=whole_name), *(Cell(f"{n:,}" if n else "") for n in row)]
        for name, whole_name, row in zip(short, names, matrix_counts(found, chosen), strict=True)
    )
    return Table(columns, rows, "Confusion, rows", boxed=True)


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


def accuracy_told(one: ClassMeasure) -> str:
    """An accuracy in percent with its interval.

    >>> accuracy_told(ClassMeasure("owl", 9, 10, 4.0, 0.2, 0.5, accuracy_low=0.025, accuracy_high=0.556))
    '20.0 (2.5–55.6)'
    """
    return f"{percent(one.accuracy)} {interval_told(one)}".rstrip()


def interval_told(one: ClassMeasure) -> str:
    """The interval of an accuracy, in percent; empty where there is none."""
    known = math.isfinite(one.accuracy_low)
    return f"({percent(one.accuracy_low)}–{percent(one.accuracy_high)})" if known else ""


def mistaken_told(one: ClassMeasure, short: str) -> str:
    """Where most of a class' errors go, as in "deer: 8 of 12".

    >>> mistaken_told(ClassMeasure("elk", 9, 20, 4.0, 0.4, 0.5, mistaken_for="deer", as_mistaken=8), "deer")
    'deer: 8 of 12'
    """
    return f"{short}: {whole(one.as_mistaken)} of {whole(one.errors)}" if one.mistaken_for else "–"


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
