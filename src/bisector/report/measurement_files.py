"""The files that a measurement is written to."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bisector.errors import ArgumentError, DamagedFileError
from bisector.files import place_of, read_json, reading, write_whole
from bisector.measurement.measurement import Measurement
from bisector.report.class_table import Table, write_class_table, write_csv
from bisector.report.measurement_page import render_measurement

_RECORD, _PAGE, _CLASSES = "measure.json", "measure.html", "classes.csv"
_MORE = (
    "score_correlations.csv",
    "label_errors.csv",
    "duplicates.csv",
    "classes.parquet",
    "classes.json",
)
"""Tables that there may be; `Measurement.tables` says which of them an earlier measurement wrote."""


def require_no_input(folder: Path, inputs: Iterable[str | Path], *, format: str = "csv") -> None:
    """Raise `ArgumentError` where a file that is read would be written over, or what is written be read next time.

    Args:
        folder: that a measurement is written to.
        inputs: files and folders that are read; what is not there is passed over.
        format: of the table of classes.
    """
    outputs = {
        place_of(folder / name) for name in (_RECORD, _PAGE, _CLASSES, f"classes.{format}", *_MORE[:3])
    }
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


def write_measurement(measurement: Measurement, folder: Path, *, format: str = "csv") -> list[Path]:
    """Write measure.html, measure.json and tables into a folder.

    The tables are classes.csv, the same as Parquet or JSON where that is asked for, score_correlations.csv where
    there are scores, and label_errors.csv and duplicates.csv where they were looked for. Those of the earlier
    measurement whose measure.json lies there are removed where they are not written again; other files stay. Every
    file is whole or not there. Of a group of duplicates the first 20 rows are named.

    Args:
        measurement: to write.
        folder: made if it is not there.
        format: csv, or in what format the table of classes is written too: parquet, json.

    Returns:
        The paths.

    Raises:
        ArgumentError: if the format is another.
        MissingExtraError: for Parquet without pyarrow.
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = _tables(measurement)
    of_classes = list(dict.fromkeys((_CLASSES, f"classes.{format}")))
    names = [*of_classes, *tables]
    for name in set(_written_before(folder / _RECORD)) - set(names):
        (folder / name).unlink(missing_ok=True)
    for name in of_classes:
        write_class_table(measurement, folder / name)
    for name, table in tables.items():
        write_csv(folder / name, table)
    replace(measurement, tables=names).write(folder / _RECORD)
    write_whole(folder / _PAGE, render_measurement(measurement))
    return [folder / name for name in (_PAGE, _RECORD, *names)]


def _written_before(record: Path) -> list[str]:
    """The tables that a measure.json names; none where it is not there or not ours."""
    try:
        with reading(f"measurement: {record} is not one that bisector wrote"):
            found = read_json(record)["tables"]
            return [name for name in _MORE if name in found]
    except (OSError, DamagedFileError):
        return []


def _tables(measurement: Measurement) -> dict[str, Table]:
    """All but that of the classes."""
    tables: dict[str, Table] = {}
    if measurement.scores:
        tables["score_correlations.csv"] = score_rows(measurement)
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
    return tables


def score_rows(measurement: Measurement) -> Table:
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
