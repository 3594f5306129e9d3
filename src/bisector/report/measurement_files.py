"""The files that a measurement is written to."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from bisector.files import write_rows, write_whole
from bisector.measurement.measurement import Measurement
from bisector.report.measurement_page import render_measurement

_Table = tuple[Sequence[str], Iterable[Sequence[object]]]


def write_measurement(measurement: Measurement, folder: Path) -> list[Path]:
    """Write measure.html, measure.json and tables into a folder.

    The tables are classes.csv, scores.csv where there are scores, and label_errors.csv and duplicates.csv where
    they were looked for; of an earlier measurement, those that are not written are removed. Every file is whole or
    not there. Of a group of duplicates the first 20 rows are named.

    Returns:
        The paths.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measurement.write(folder / "measure.json")
    write_whole(folder / "measure.html", render_measurement(measurement))
    tables: dict[str, _Table] = {
        "classes.csv": class_rows(measurement),
    }
    if measurement.scores:
        tables["scores.csv"] = score_rows(measurement)
    if measurement.label_errors is not None:
        tables["label_errors.csv"] = (
            ["row", "name", "split", "label", "suggested", "confidence", "judge"],
            (
                [s.row, s.name, s.split, s.label, s.suggested, s.confidence, s.judge]
                for s in measurement.label_errors.suspects
            ),
        )
    if measurement.duplicates is not None:
        tables["duplicates.csv"] = (
            ["group", "row", "name", "class", "split", "across_splits", "labels_differ"],
            (
                [number, row, name, kind, split, group.across_splits, group.labels_differ]
                for number, group in enumerate(measurement.duplicates.groups)
                for row, name, kind, split in zip(
                    group.rows,
                    group.names,
                    group.classes,
                    group.splits or [""] * len(group.rows),
                    strict=True,
                )
            ),
        )
    for name in {"scores.csv", "label_errors.csv", "duplicates.csv"} - set(tables):
        (folder / name).unlink(missing_ok=True)
    for name, (heading, rows) in tables.items():
        write_rows(folder / name, [heading, *([_cell(value) for value in row] for row in rows)])
    return [folder / name for name in ("measure.html", "measure.json", *tables)]


def class_rows(measurement: Measurement) -> _Table:
    """The headings and a row for each class; scores that the user brought have a column each."""
    brought = [score for score in measurement.scores if score.brought]
    own = ["class", "count", "tested", "amount", "accuracy", "loss", "equal_amount", "error"]
    names = _distinct(own, [score.name for score in brought])
    rows = [
        [
            *(
                one.name,
                one.count,
                one.tested,
                one.amount,
                one.accuracy,
                one.loss,
                one.equal_amount,
                one.error,
            ),
            *(score.values[c] for score in brought),
        ]
        for c, one in enumerate(measurement.classes)
    ]
    return [*own, *names], rows


def score_rows(measurement: Measurement) -> _Table:
    """The headings and a row for each score and quantity: correlations with their intervals, and what is added."""
    kinds = ("pearson", "spearman", "partial")
    headings = ["score", "source", "quantity", "held_fixed", "classes"]
    headings += [f"{kind}{end}" for kind in kinds for end in ("", "_low", "_high")]
    headings += ["r2_held_fixed", "r2_both", "f", "p", "bias", "bias_corrected"]
    rows = []
    for score in measurement.scores:
        for one in score.relationships:
            relation, adds = one.relation, one.adds
            estimates = (relation.pearson, relation.spearman, relation.partial)
            rows.append(
                [
                    *(score.name, score.source, one.quantity, one.given, relation.rows),
                    *(value for each in estimates for value in (each.value, each.low, each.high)),
                    *(adds.r2_base, adds.r2_full, adds.f, adds.p, score.bias, score.bias_corrected),
                ]
            )
    return headings, rows


def _distinct(taken: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names, those that are taken with a number behind."""
    found: list[str] = []
    for name in names:
        given, k = name, 2
        while given in (*taken, *found):
            given, k = f"{name}_{k}", k + 1
        found.append(given)
    return found


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value
