"""The files that a measurement is written to."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeAlias

from bisector.errors import ArgumentError, DamagedFileError, require_choice
from bisector.files import place_of, read_json, reading, write_whole
from bisector.measurement.classes import ClassMeasure
from bisector.measurement.measurement import Measurement
from bisector.report.measurement import render_measurement
from bisector.report.measurement_pictures import NO_PICTURES, Pictures
from bisector.report.table import write_records

Records: TypeAlias = tuple[list[str], Iterable[Sequence[object]]]
"""The headings, and the values of every row."""

_RECORD, _PAGE, _CLASSES = "measure.json", "measure.html", "classes.csv"
_SCORES, _LABELS, _DUPLICATES = "score_correlations.csv", "label_errors.csv", "duplicates.csv"
_MORE = (_SCORES, _LABELS, _DUPLICATES, "classes.parquet", "classes.json")
"""Tables that there may be; `Measurement.tables` says which of them an earlier measurement wrote."""


def require_no_input(folder: Path, inputs: Iterable[str | Path], *, format: str = "csv") -> None:
    """Raise `ArgumentError` where a file that is read would be written over, or what is written be read next time.

    Args:
        folder: that a measurement is written to.
        inputs: files and folders that are read; what is not there is passed over.
        format: of the table of classes.
    """
    names = (_RECORD, _PAGE, _CLASSES, f"classes.{format}", _SCORES, _LABELS, _DUPLICATES)
    outputs = {place_of(folder / name) for name in names}
    for given in inputs:
        path = place_of(Path(given))
        if path in outputs:
            raise ArgumentError(
                f"--out: got {folder}, where {path.name} would be written over {given}; expected another folder"
            )
        if format == "parquet" and path.is_dir() and place_of(folder).is_relative_to(path):
            raise ArgumentError(
                f"--out: got {folder} with --format parquet, in the folder of embeddings {given}, whose Parquet "
                "files are read; expected another folder"
            )


def write_measurement(
    measurement: Measurement, folder: Path, *, format: str = "csv", pictures: Pictures = NO_PICTURES
) -> list[Path]:
    """Write measure.html, measure.json and tables into a folder.

    The tables are classes.csv, the same as Parquet or JSON where that is asked for, score_correlations.csv where
    there are scores, and label_errors.csv and duplicates.csv where they were looked for. Those of the earlier
    measurement whose measure.json lies there are removed where they are not written again; other files stay. Every
    file is whole or not there. Of a group of duplicates the first 20 rows are named.

    Args:
        measurement: to write.
        folder: made if it is not there.
        format: csv, or in what format the table of classes is written too: parquet, json.
        pictures: of examples, for the page.

    Returns:
        The paths.

    Raises:
        ArgumentError: if the format is another.
        MissingExtraError: for Parquet without pyarrow.
        OSError: if a file cannot be written.
    """
    require_choice("format", format, ("csv", "parquet", "json"))
    folder.mkdir(parents=True, exist_ok=True)
    tables = _tables(measurement)
    of_classes = list(dict.fromkeys((_CLASSES, f"classes.{format}")))
    names = [*of_classes, *tables]
    for name in set(_written_before(folder / _RECORD)) - set(names):
        (folder / name).unlink(missing_ok=True)
    headings, rows, types = _classes(measurement)
    for name in of_classes:
        write_records(folder / name, headings, rows, types)
    for name, (headings, lines) in tables.items():
        write_records(folder / name, headings, lines)
    replace(measurement, tables=names).write(folder / _RECORD)
    write_whole(folder / _PAGE, render_measurement(measurement, pictures))
    return [folder / name for name in (_PAGE, _RECORD, *names)]


def _written_before(record: Path) -> list[str]:
    """The tables that a measure.json names; none where it is not there or not ours."""
    try:
        with reading(f"measurement: {record} is not one that bisector wrote"):
            found = read_json(record)["tables"]
            return [name for name in _MORE if name in found]
    except (OSError, DamagedFileError):
        return []


def _classes(measurement: Measurement) -> tuple[list[str], list[list[object]], list[type]]:
    """A row for each class: the fields of its `ClassMeasure`, the name as `class`, and the scores brought."""
    held = {field.name: field.type for field in fields(ClassMeasure)}
    headings = ["class" if name == "name" else name for name in held]
    brought = [score for score in measurement.scores if score.brought]
    for score in brought:
        name, k = score.name, 2
        while name in headings:
            name, k = f"{score.name}_{k}", k + 1
        headings.append(name)
    rows: list[list[object]] = [
        [*(getattr(one, name) for name in held), *(score.values[c] for score in brought)]
        for c, one in enumerate(measurement.classes)
    ]
    types = [held for held in held.values() if isinstance(held, type)]
    return headings, rows, [*types, *[float] * len(brought)]


def _tables(measurement: Measurement) -> dict[str, Records]:
    """All but that of the classes."""
    tables: dict[str, Records] = {}
    if measurement.scores:
        tables[_SCORES] = _correlations(measurement)
    if measurement.label_errors is not None:
        headings = ["row", "name", "split", "label", "suggested", "confidence", "judge"]
        suspects = measurement.label_errors.suspects
        tables[_LABELS] = headings, ([getattr(s, name) for name in headings] for s in suspects)
    if measurement.duplicates is not None:
        rows = []
        for k, group in enumerate(measurement.duplicates.groups):
            splits = group.splits or [""] * len(group.rows)
            each = zip(group.rows, group.names, group.classes, splits, strict=True)
            rows += [[k, *own, group.across_splits, group.labels_differ] for own in each]
        tables[_DUPLICATES] = (
            ["group", "row", "name", "class", "split", "across_splits", "labels_differ"],
            rows,
        )
    return tables


def _correlations(measurement: Measurement) -> Records:
    """A row for each score and quantity: correlations with their intervals, and what is added."""
    kinds = ("pearson", "spearman", "partial")
    headings = ["score", "source", "quantity", "held_fixed", "classes"]
    headings += [f"{kind}{end}" for kind in kinds for end in ("", "_low", "_high")]
    headings += ["r2_held_fixed", "r2_both", "f", "p", "bias", "bias_corrected"]
    rows = []
    for score in measurement.scores:
        for one in score.relationships:
            estimates = (getattr(one.relation, kind) for kind in kinds)
            row = [score.name, score.source, one.quantity, one.given, one.relation.rows]
            row += [value for each in estimates for value in (each.value, each.low, each.high)]
            row += [
                one.adds.r2_base,
                one.adds.r2_full,
                one.adds.f,
                one.adds.p,
                score.bias,
                score.bias_corrected,
            ]
            rows.append(row)
    return headings, rows
