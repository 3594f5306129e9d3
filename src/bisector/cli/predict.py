"""Say the class of every example by a trained classifier, with its probability and the next most probable classes.

The model is a run or a checkpoint of `bisector train`; the decision that is kept in the run's folder is followed.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.output import add_json, device_of, require_file, say, tell
from bisector.errors import require_integer
from bisector.training.results import require_model

if TYPE_CHECKING:
    from bisector.inference.inputs import Inputs
    from bisector.inference.predictions import Columns, Prediction

_SHOWN = 10  # rows of the table where no file is written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector predict``."""
    parser.add_argument(
        "run", type=Path, help="folder of a run, file.ckpt, which has no decision, or file.safetensors"
    )
    parser.add_argument(
        "data",
        nargs="*",
        help="name or path of a data set, or images and folders of images, which need no labels (default: what the "
        "model was trained on)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write: .parquet, .csv, .json or .jsonl (default: the first rows are printed)",
    )
    parser.add_argument(
        "--top-k", type=int, default=5, help="most probable classes of each example (default: %(default)s)"
    )
    parser.add_argument(
        "--part",
        default="all",
        choices=("all", "train", "validation", "test"),
        help="part of data that are divided (default: %(default)s)",
    )
    parser.add_argument(
        "--label",
        metavar="COLUMN",
        help="of labels in Parquet of images or in a table, where it is not found",
    )
    parser.add_argument("--batch-size", type=int, default=256, help="examples at once (default: %(default)s)")
    parser.add_argument("--device", help="that computes: cpu, cuda, cuda:1 (default: a GPU if there is one)")
    add_json(parser)


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Predict, write the file or print the first rows, say what was left out."""
    require_integer("--top-k", arguments.top_k, least=1)
    require_integer("--batch-size", arguments.batch_size, least=1)
    require_model(arguments.run)
    if arguments.out is not None:
        from bisector.inference.predictions import require_format

        require_format(arguments.out)
        require_file(arguments.out)

    from bisector.inference.inputs import open_inputs
    from bisector.inference.predictions import Columns, predictions, record_of
    from bisector.inference.predictor import load

    model = load(arguments.run, device=device_of(arguments.device))
    inputs = open_inputs(model, arguments.data, part=arguments.part, label=arguments.label)
    few = arguments.out is None and not arguments.json
    size = min(arguments.batch_size, _SHOWN) if few else arguments.batch_size
    asked = predictions(model, inputs, batch_size=size, top_k=arguments.top_k)
    found = chain([next(asked)], asked)  # where nothing can be read, that is all there is to say
    decision = model.decision
    followed = [] if decision is None else [f"the decision of the training is followed: {decision.method}"]
    tell("predict", *model.model.notes, *followed, *inputs.notes)
    columns = Columns(inputs.split, inputs.labelled, min(arguments.top_k, len(model.class_names)))
    notes = {
        "class_names": list(model.class_names),
        "model": str(arguments.run),
        "data": inputs.name,
        "decision": None if decision is None else decision.method,
        "left_out": inputs.left_out,
    }
    if arguments.out is None:
        rows = [*islice((row for batch in found for row in batch), _SHOWN if few else None)]
        _tell_left_out(inputs)
        if arguments.json:
            return {**notes, "rows": len(rows), "predictions": [record_of(row, columns) for row in rows]}
        say(_table(rows, inputs))
        more = f"the first {len(rows)} of {inputs.rows} examples; " if inputs.rows > len(rows) else ""
        say(f"\n{more}--out FILE writes all of them, with the next most probable classes")
        return notes
    rows_written = _write(arguments.out, found, inputs.rows, columns, notes)
    _tell_left_out(inputs)
    print(f"{rows_written} rows: {arguments.out}")
    return {**notes, "rows": rows_written, "file": str(arguments.out)}


def _write(
    out: Path, found: Iterator["list[Prediction]"], total: int, columns: "Columns", notes: dict[str, Any]
) -> int:
    from tqdm import tqdm

    from bisector.inference.predictions import prediction_file

    out.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with (
        tqdm(total=total, unit="example", file=sys.stderr, dynamic_ncols=True, delay=1e-3) as bar,
        prediction_file(out, columns, notes) as write,
    ):
        for rows in found:
            write(rows)
            written += len(rows)
            bar.update(len(rows))
    return written


def _table(rows: "list[Prediction]", inputs: "Inputs") -> str:
    from bisector.report.table import Column, Table

    known = [key for key in ("split", "label") if getattr(inputs, "labelled" if key == "label" else key)]
    columns = [Column("Example", "name"), *(Column(key.capitalize()) for key in known)]
    cells = [
        [
            row.name,
            *(getattr(row, key) or "–" for key in known),
            row.classes[0],
            f"{100 * row.probabilities[0]:.1f}",
            *([f"{row.classes[1]} {100 * row.probabilities[1]:.1f}"] if len(row.classes) > 1 else []),
        ]
        for row in rows
    ]
    following = [Column("Next", unit="%")] if len(rows[0].classes) > 1 else []
    return Table([*columns, Column("Prediction"), Column("", unit="%"), *following], cells).text()


def _tell_left_out(inputs: "Inputs") -> None:
    tell("predict", *(f"left out: {line}" for line in inputs.left_out))
