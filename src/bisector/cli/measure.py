"""Say what stored embeddings tell: hard classes, confused pairs, suspected labels, duplicates, one next step.

Prints tables and writes measure.html, measure.json, classes.csv, label_errors.csv, duplicates.csv and, with scores,
score_correlations.csv.
"""

import argparse
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.output import add_json, require_folder, say, tell
from bisector.cores import require_tasks
from bisector.errors import ArgumentError, require, require_integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bisector.data.tables import StoredEmbeddings
    from bisector.measurement.class_scores import ClassScores
    from bisector.measurement.measurement import Measurement
    from bisector.measurement.stream.options import Options
    from bisector.report.measurement_pictures import Pictures

IN_MEMORY = 2**30
"""Bytes of vectors and scores from which they are read as a stream, where nothing else was asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector measure``."""
    parser.add_argument(
        "file",
        help="embeddings with labels: .parquet (of `bisector embed` or anybody's), a folder of them or an address "
        "such as s3://bucket/folder, a folder of Arrow files, .csv, .tsv, .jsonl, .npz, .pt, .safetensors, "
        "embeddings.npy beside labels.npy, or vectors.npy,labels.npy; or labels with predictions alone (y_true, "
        "y_pred)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/measure"),
        help="folder for the page and the tables (default: %(default)s)",
    )
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="FILE",
        help="other scores of the classes, such as AP: .csv, .json or .parquet with a column class and one a score",
    )
    parser.add_argument("--embedding", metavar="COLUMN", help="column of vectors, where it is not found")
    parser.add_argument("--label", metavar="COLUMN", help="column of labels, where it is not found")
    parser.add_argument(
        "--shrinkage",
        metavar="NAME",
        default="quadratic-inverse",
        help="of the covariances (default: %(default)s)",
    )
    parser.add_argument(
        "--embeddings",
        choices=("unit", "raw"),
        default="unit",
        help="amounts of unit embeddings, or of embeddings as they are (default: %(default)s)",
    )
    parser.add_argument(
        "--equal-count",
        type=int,
        metavar="K",
        help="rows of every class, drawn at random, that equal amounts are "
        "measured on (default: what nearly all classes reach)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="that draws these rows (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=("csv", "parquet", "json"),
        default="csv",
        help="of the table of classes, beside classes.csv (default: %(default)s)",
    )
    parser.add_argument(
        "--images",
        metavar="DATA",
        help="folder of images or data set that the rows are pictures of, for the page (default: the files that "
        "rows are named after, where these are there)",
    )
    add_json(parser)
    stream = parser.add_argument_group("rows that do not fit into memory")
    stream.add_argument(
        "--engine",
        choices=("memory", "stream", "dask"),
        help="memory: all rows at once, and every adjustment of the scores is tried; stream: in bounded memory, "
        "can be interrupted and goes on; dask: the same on a cluster (default: memory below 1 GiB of vectors and "
        "scores)",
    )
    stream.add_argument(
        "--scheduler", metavar="URL", help="of a Dask cluster, tcp://host:8786 (default: one of this machine)"
    )
    stream.add_argument(
        "--workers", type=int, metavar="N", help="of the cluster of this machine (default: a core)"
    )
    stream.add_argument(
        "--memory-budget",
        metavar="SIZE",
        help="such as 2GiB: what is held of all classes may take so much, sketched where it must; the process "
        "takes some times as much (default: no limit)",
    )
    stream.add_argument(
        "--partials",
        type=Path,
        metavar="DIR",
        help="folder for what was measured so far, which all workers see (default: partials in --out)",
    )
    stream.add_argument("--keep-partials", action="store_true", help="do not remove them at the end")
    stream.add_argument(
        "--leaf-rows",
        type=int,
        metavar="N",
        help="rows after which a partial is written, at least (default: 262144; at most 64 partials)",
    )


def run(arguments: argparse.Namespace, command: str) -> Any:
    """Measure, print, write the files."""
    require_folder(arguments.out)
    _require_numbers(arguments)
    for path in _paths(arguments.file):
        require(path.exists(), "file", f"{path}, which is not there", "a table: .parquet, .csv, .npz, ...")

    from bisector.report.measurement_files import require_no_input

    inputs = [*_paths(arguments.file), *([] if arguments.scores is None else [arguments.scores])]
    require_no_input(arguments.out, inputs, format=arguments.format)
    engine, stored = _engine(arguments)
    if engine == "memory":
        return _finish(*_in_memory(arguments, stored, command), arguments)
    if arguments.images is not None:
        told = (
            f"--images {arguments.images}: not looked at; pictures are of tables in memory: --engine memory"
        )
        tell("measure", told)
    partials = arguments.partials or arguments.out / "partials"
    require_folder(partials)
    options = _options(arguments)
    stored = stored or _open(arguments)
    told = f"{engine} with {arguments.file}, which has no embeddings"
    require(stored.dim > 0, "--engine", told, "memory, which takes scores and predictions alone")
    record = _finish(_streamed(arguments, engine, stored, options, partials, command), None, arguments)
    if not arguments.keep_partials:
        from bisector.measurement.stream.folder import plan_of, remove_partials

        with suppress(ArgumentError):  # another command works there by now: they are its own
            remove_partials(partials, plan_of(stored, options))
    return record


def size_in_bytes(text: str) -> int:
    """Bytes that a size says, such as 2GiB (2^30 bytes each), 500MB (10^6 each) or a bare number.

    >>> size_in_bytes("1.5 GiB"), size_in_bytes("64kb"), size_in_bytes("8")
    (1610612736, 64000, 8)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt]?)(i?)b)?", text.strip().lower())
    require(found is not None, "--memory-budget", repr(text), "a size such as 2GiB or 500MB")
    assert found is not None
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " kmgt".index(found[2] or " "))


def _require_numbers(arguments: argparse.Namespace) -> None:
    """Raise `ArgumentError` for what no engine can do, before anything is opened."""
    if arguments.leaf_rows is not None:
        require_integer("--leaf-rows", arguments.leaf_rows, least=1)
    if arguments.workers is not None:
        require_tasks("--workers", arguments.workers)
    if arguments.equal_count is not None:
        require_integer("--equal-count", arguments.equal_count, least=2)
    if arguments.memory_budget is not None:
        size_in_bytes(arguments.memory_budget)
    if arguments.scheduler is not None:
        port = arguments.scheduler.rstrip("/").rpartition(":")[2]
        require(port.isdigit(), "--scheduler", arguments.scheduler, "an address such as tcp://host:8786")
    require(
        arguments.workers is None or arguments.scheduler is None,
        "--workers",
        f"{arguments.workers} with --scheduler",
        "one of them: a scheduler has the workers that it has",
    )


def _engine(arguments: argparse.Namespace) -> "tuple[str, StoredEmbeddings | None]":
    """The engine that was asked for, or the one that fits; with the data where they had to be looked at."""
    of_a_stream = [
        flag
        for flag in (
            "--scheduler",
            "--workers",
            "--memory-budget",
            "--partials",
            "--keep-partials",
            "--leaf-rows",
        )
        if getattr(arguments, flag[2:].replace("-", "_")) not in (None, False)
    ]
    of_a_cluster = [flag for flag in of_a_stream if flag in {"--scheduler", "--workers"}]
    engine: str | None = arguments.engine
    if engine == "memory" and of_a_stream:
        raise ArgumentError(
            f"{of_a_stream[0]}: got it with --engine memory; expected --engine stream or dask"
        )
    if engine == "stream" and of_a_cluster:
        raise ArgumentError(f"{of_a_cluster[0]}: got it with --engine stream; expected --engine dask")
    if engine is not None or of_a_stream:
        return engine or ("dask" if of_a_cluster else "stream"), None
    from bisector.data.tables.arrays import ColumnOrderError

    try:
        stored = _open(arguments)
    except ColumnOrderError as error:
        tell("measure", f"{error}: --engine memory")
        return "memory", None
    size = stored.bytes_in_memory
    engine = "memory" if size < IN_MEMORY or not stored.dim else "stream"
    why = "all rows at once" if engine == "memory" else "in bounded memory; --engine memory holds all rows"
    limit = f"{IN_MEMORY / 2**20:,.0f} is the limit"
    tell("measure", f"{size / 2**20:,.0f} MiB of vectors and scores ({limit}): --engine {engine}, {why}")
    return engine, stored


def _open(arguments: argparse.Namespace, *, at_once: bool = False) -> "StoredEmbeddings":
    from bisector.data.tables import open_embeddings

    return open_embeddings(
        _absolute(arguments.file),
        embedding=arguments.embedding,
        label=arguments.label,
        vectors_needed=False,
        at_once=at_once,
    )


def _absolute(file: str) -> str:
    """The path from the root: workers stand elsewhere, and partials are of these very files."""
    return file if "://" in file else ",".join(str(path.absolute()) for path in _paths(file))


def _paths(file: str) -> list[Path]:
    """The file or folder of this machine, or the two files, that are meant; none of a URL."""
    if "://" in file:
        return []
    words = file.split(",") if not Path(file).exists() and file.lower().endswith(".npy") else [file]
    return [Path(word.strip()) for word in words]


def _in_memory(
    arguments: argparse.Namespace, stored: "StoredEmbeddings | None", command: str
) -> "tuple[Measurement, Pictures]":
    from bisector.data.tables import whole_table
    from bisector.measurement.measure import measure
    from bisector.report.measurement_pictures import picture_reader, pictures_of

    stored = stored or _open(arguments, at_once=True)
    table = whole_table(stored)
    tell("measure", stored.reader.columns_line)
    read = picture_reader(table, arguments.images)  # a mistake is told before anything is measured
    found = measure(
        table,
        file=arguments.file,
        command=command,
        scores=_scores(arguments, table.class_names),
        shrinkage=arguments.shrinkage,
        embeddings=arguments.embeddings,
        equal_count=arguments.equal_count,
        seed=arguments.seed,
    )
    return found, pictures_of(table, found, read)


def _options(arguments: argparse.Namespace) -> "Options":
    from bisector.measurement.stream.options import Options
    from bisector.measurement.stream.tree import LEAF_ROWS

    return Options(
        shrinkage=arguments.shrinkage,
        embeddings=arguments.embeddings,
        equal_count=arguments.equal_count,
        memory_budget=None if arguments.memory_budget is None else size_in_bytes(arguments.memory_budget),
        seed=arguments.seed,
        leaf_rows=LEAF_ROWS if arguments.leaf_rows is None else arguments.leaf_rows,
    )


def _streamed(
    arguments: argparse.Namespace,
    engine: str,
    stored: "StoredEmbeddings",
    options: "Options",
    partials: Path,
    command: str,
) -> "Measurement":
    from bisector.cli.rate import Rate
    from bisector.measurement.stream.measure import measure_stream

    untold = [stored.reader.columns_line]  # until something is measured: a mistake is one line
    with Rate("bisector measure", stored.rows) as rate:

        def more(rows: int) -> None:
            while untold:
                rate.tell(untold.pop())
            rate.more(rows)

        try:
            measured = measure_stream(
                stored,
                partials,
                options=options,
                engine=engine,
                scheduler=arguments.scheduler,
                workers=arguments.workers,
                file=arguments.file,
                command=command,
                scores=_scores(arguments, stored.class_names),
                begin=rate.begin,
                progress=more,
                tell=rate.tell,
            )
            more(0)
            return measured
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on from the last partial") from None


def _scores(arguments: argparse.Namespace, class_names: "Sequence[str]") -> "list[ClassScores]":
    from bisector.measurement.class_scores import read_class_scores

    return [] if arguments.scores is None else read_class_scores(arguments.scores, class_names)


def _finish(measurement: "Measurement", pictures: "Pictures | None", arguments: argparse.Namespace) -> Any:
    """Write the files, print the text, return what measure.json holds."""
    from bisector.files import read_json
    from bisector.report.measurement import format_measurement
    from bisector.report.measurement_files import write_measurement
    from bisector.report.measurement_pictures import NO_PICTURES

    page, record, *_ = write_measurement(
        measurement, arguments.out, format=arguments.format, pictures=pictures or NO_PICTURES
    )
    say(f"{format_measurement(measurement)}\n\nThe page: {page}")
    return read_json(record)
