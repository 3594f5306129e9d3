"""The files that a measurement is written to."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from bisector.files import write_rows, write_whole
from bisector.measurement.measurement import Measurement
from bisector.report.measurement_page import render_measurement


def write_measurement(measurement: Measurement, folder: Path) -> list[Path]:
    """Write measure.json, classes.csv, label_errors.csv, duplicates.csv and measure.html into a folder.

    Every file is whole or not there. Of a group of duplicates the first 20 rows are named.

    Returns:
        The paths.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measurement.write(folder / "measure.json")
    write_whole(folder / "measure.html", render_measurement(measurement))
    tables: dict[str, tuple[Sequence[str], Iterable[Sequence[object]]]] = {
        "classes.csv": (
            ["class", "count", "tested", "amount", "accuracy", "loss"],
            ([c.name, c.count, c.tested, c.amount, c.accuracy, c.loss] for c in measurement.classes),
        ),
        "label_errors.csv": (
            ["row", "name", "split", "label", "suggested", "confidence", "judge"],
            (
                [s.row, s.name, s.split, s.label, s.suggested, s.confidence, s.judge]
                for s in measurement.label_errors.suspects
            ),
        ),
        "duplicates.csv": (
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
        ),
    }
    for name, (heading, rows) in tables.items():
        write_rows(folder / name, [heading, *([_cell(value) for value in row] for row in rows)])
    return [folder / name for name in ("measure.html", "measure.json", *tables)]


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value
