"""How the classes of a test fared: accuracies with their intervals, where errors go, what was taken for what."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bisector.measurement.classes import ClassMeasure, hardest, most_mistaken
from bisector.measurement.confusion import FEW_CLASSES, mistakes_of_counts
from bisector.report.comparison_figures import counts_of
from bisector.report.parts import ACCENT, PAPER, Figure, Json, heatmap
from bisector.report.table import Cell, Column, Table, Values
from bisector.report.words import percent, plot_text, short_names, whole
from bisector.statistics.proportion import wilson
from bisector.training.results import Comparison

_LETTERS = 14  # of a name beside the matrix
_LONGER = 28  # of the class that errors go to, in a table
_ROW = 16  # pixels of a row of the matrix, at least
_SMALL = 12  # classes up to which the matrix is as wide as the screen of a telephone

Classes = Sequence[ClassMeasure]
Mistakes = Mapping[str, Mapping[str, int]]
"""Tested rows of each class that were taken for another, by name."""


def classes_of_training(comparison: Comparison) -> tuple[list[ClassMeasure], dict[str, dict[str, int]]]:
    """The classes as the first training of a comparison left them, and its mistakes."""
    run, names = comparison.runs[0], comparison.class_names
    confused = {
        i * len(names) + j: rows
        for i, row in enumerate(run.confusion)
        for j, rows in enumerate(row)
        if rows and i != j
    }
    most = most_mistaken(confused, names)
    counts = counts_of(run, comparison)
    classes = []
    for c, (name, tested, accuracy) in enumerate(
        zip(names, comparison.test_counts, run.class_accuracy, strict=True)
    ):
        right = round(accuracy * tested) if tested and math.isfinite(accuracy) else 0
        sure = wilson(right, tested)
        rows, other = most.get(c, (0, ""))
        amount = run.class_amount[c] if run.class_amount else math.nan
        one = ClassMeasure(name, counts[c], tested, amount, accuracy, math.nan)
        one = replace(one, accuracy_low=sure.low, accuracy_high=sure.high)
        classes.append(replace(one, mistaken_for=other, as_mistaken=rows))
    return classes, mistakes_of_counts(confused, names)


def hardest_first(classes: Classes, others: Classes = ()) -> list[int]:
    """The places of all classes: the hardest tested ones first, then some others in their order, then the rest."""
    place = {id(one): c for c, one in enumerate(classes)}
    named = (place[id(one)] for one in [*hardest(classes), *others])
    return list(dict.fromkeys([*named, *range(len(classes))]))


def weakest(accuracies: Sequence[float], counts: Sequence[int]) -> list[int]:
    """The places of the classes with an accuracy, the lowest first; of equal ones the rarest.

    >>> weakest([0.5, 0.0, math.nan, 0.0], [9, 40, 9, 36])
    [3, 1, 0]
    """
    known = [c for c, accuracy in enumerate(accuracies) if math.isfinite(accuracy)]
    return sorted(known, key=lambda c: (accuracies[c], counts[c]))


def tested_columns(classes: Classes, on: str) -> list[Values]:
    """How many of the tested rows of each class are right, with the interval, and where the errors go."""
    hint = f"On {on}; in small print where it lies with 95 % confidence (Wilson)."
    accuracies = [Cell(percent(one.accuracy), one.accuracy, interval_told(one)) for one in classes]
    names = [one.name for one in classes]
    short = dict(zip(names, short_names(names, _LONGER), strict=True))
    mistaken = [
        Cell(mistaken_told(one, short.get(one.mistaken_for, "")), one.mistaken_for, title=one.mistaken_for)
        for one in classes
    ]
    errors = Column("Errors go to", "words", help="Most of them.", sorts="ascending", width=5)
    return [
        (Column("Accuracy, %", help=hint, sorts="ascending", sorted=True), accuracies, str),
        (errors, mistaken, str),
    ]


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


def matrix_classes(classes: Classes, mistakes: Mistakes) -> list[int]:
    """The classes of the matrix, in their order: all, or of many those that are confused most."""
    if len(classes) <= FEW_CLASSES:
        return list(range(len(classes)))
    place = {one.name: c for c, one in enumerate(classes)}
    pairs = [(rows, one, other) for one, own in mistakes.items() for other, rows in own.items()]
    names = [name for _, *both in sorted(pairs, key=lambda pair: -pair[0]) for name in both]
    return sorted(place[name] for name in list(dict.fromkeys(names))[:FEW_CLASSES])


def matrix_counts(classes: Classes, mistakes: Mistakes, chosen: Sequence[int]) -> list[list[int]]:
    """How many tested rows of each of some classes were taken for each of them."""
    classes, counts = [classes[c] for c in chosen], []
    for one in classes:
        own = mistakes.get(one.name, {})
        right = one.tested - one.errors
        counts.append([right if one is other else own.get(other.name, 0) for other in classes])
    return counts


def matrix_figure(classes: Classes, mistakes: Mistakes) -> Figure | None:
    """A row for each class, coloured by the share of its rows that was taken for each; None without mistakes."""
    if not mistakes:
        return None
    chosen = matrix_classes(classes, mistakes)
    counts = matrix_counts(classes, mistakes, chosen)
    classes = [classes[c] for c in chosen]
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


def matrix_table(classes: Classes, mistakes: Mistakes) -> Table:
    """The same as numbers; an empty cell is 0."""
    chosen = matrix_classes(classes, mistakes)
    names = [classes[c].name for c in chosen]
    short = short_names(names, _LETTERS)
    columns = [Column("Class", "name"), *(Column(name) for name in short)]
    rows = (
        [Cell(name, title=whole_name), *(Cell(f"{n:,}" if n else "") for n in row)]
        for name, whole_name, row in zip(short, names, matrix_counts(classes, mistakes, chosen), strict=True)
    )
    return Table(columns, rows, "Confusion, rows", boxed=True)
