"""Say what stored embeddings tell: hard classes, confused pairs, suspected labels, duplicates, one next step.

Prints tables and writes measure.html, measure.json, classes.csv, label_errors.csv and duplicates.csv.
"""

import argparse
from pathlib import Path

from bisector.cli.output import require_folder, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector measure``."""
    parser.add_argument(
        "file",
        help="embeddings with labels: .parquet (of `bisector embed` or anybody's), a folder of them, .npz, "
        "embeddings.npy beside labels.npy, or vectors.npy,labels.npy",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/measure"),
        help="folder for the page and the tables (default: %(default)s)",
    )
    parser.add_argument("--embedding", metavar="COLUMN", help="column of vectors, where it is not found")
    parser.add_argument("--label", metavar="COLUMN", help="column of labels, where it is not found")


def run(arguments: argparse.Namespace, command: str) -> None:
    """Measure, print, write the files."""
    require_folder(arguments.out)
    from bisector.data.embeddings import read_embeddings
    from bisector.measurement.measure import measure
    from bisector.report.measurement_files import write_measurement
    from bisector.report.measurement_text import format_measurement

    table = read_embeddings(arguments.file, embedding=arguments.embedding, label=arguments.label)
    measurement = measure(table, file=arguments.file, command=command)
    page = write_measurement(measurement, arguments.out)[0]
    say(f"{format_measurement(measurement)}\n\nThe page: {page}")
