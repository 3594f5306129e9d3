"""What the actions of ``bisector detect`` have in common."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli import output
from bisector.cli.options import add_options, record_of
from bisector.cli.output import add_json, say
from bisector.detection.recipe import BoxTask
from bisector.errors import ArgumentError, MissingExtraError
from bisector.files import write_whole

if TYPE_CHECKING:
    import torch

    from bisector.data.boxes import BoxSet, BoxSplits
    from bisector.detection.checkpoint import TrainedDetector
    from bisector.detection.evaluation import Detections
    from bisector.detection.train import BoxResult
    from bisector.report.detection_run import DetectionRun

DETECTIONS, PAGE = "detections.json", "detections.html"


def add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the flags that name the data."""
    helped = "folder of Pascal VOC, COCO or LVIS; file.json; or plugin.py:option=value:..."
    trained = "" if required else " (default for a model of ours: what it was trained on)"
    parser.add_argument("--data", required=required, help=helped + trained)
    add_options(parser, BoxTask, without=("data",))


def add_machine(parser: "argparse._ActionsContainer") -> None:
    """Add the flags of what runs a trained model."""
    parser.add_argument("--device", help="that computes: cpu, cuda, cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="N", help="pictures at once (default: 4)"
    )


def add_out(
    parser: argparse.ArgumentParser, default: str, what: str = "folder for everything that is written"
) -> None:
    """Add the flags of what is written and printed."""
    parser.add_argument("--out", type=Path, default=Path(default), help=f"{what} (default: %(default)s)")
    add_json(parser)


def task_of(arguments: argparse.Namespace, trained: "TrainedDetector | None" = None) -> BoxTask:
    """Return the data that were named, or those of the training.

    Raises:
        ArgumentError: none were named, and nothing was trained on any.
    """
    if arguments.data is not None:
        return record_of(BoxTask, arguments)
    if trained is None:
        raise ArgumentError("--data: got none; expected the pictures and boxes that the results are of")
    return trained.task


def data_options(task: BoxTask) -> dict[str, Any]:
    """Return the options of a command that name these data, by name with underscores.

    >>> data_options(BoxTask("boxes.json", images="photos", imbalance=10.0))
    {'data': 'boxes.json', 'images': 'photos', 'imbalance': 10.0}
    """
    given = {f.name: (getattr(task, f.name), f.default) for f in fields(task)}
    return {name: value for name, (value, default) in given.items() if value != default}


def device_of(name: str | None) -> "torch.device":
    """Return the device that was named, or a GPU if there is one.

    Raises:
        ArgumentError: it is none, or not there.
    """
    from bisector.embedding.model import require_device

    return require_device(output.device_of(name))


def warn_of_data(splits: "BoxSplits", action: str) -> None:
    """Say on stderr what of the data could not be used, was drawn, or is in two parts."""
    lines = dict.fromkeys(line for part in splits.parts for line in part.left_out)
    output.tell(f"detect {action}", *(f"data: {line}" for line in lines))


def finish(
    result: "BoxResult",
    found: "Sequence[Detections]",
    truth: "BoxSet",
    out: Path,
    command: str,
    title: str,
    *,
    notes: Sequence[str] = (),
) -> None:
    """Print the scores, write detections.json, the page and result.json."""
    from bisector.detection.evaluation import write_detections
    from bisector.records import write_record
    from bisector.report.detection_text import format_classes, format_scores
    from bisector.training.results import RESULT

    out.mkdir(parents=True, exist_ok=True)
    write_detections(out / DETECTIONS, truth, found)
    lines = [
        title,
        "",
        format_scores([(result.head, result.scores)]),
        "",
        format_classes(result.scores, most=20),
    ]
    if result.classified is not None:
        share = 100 * result.classified.balanced_accuracy
        lines += ["", f"Given the true boxes, {share:.1f}% of them get their class (mean over the classes)."]
    say("\n".join([*lines, *(f"\nNote: {note}" for note in notes)]))
    say(f"\nDetections: {out / DETECTIONS}")
    say_page(out / PAGE, [run_of(result, found)], truth, title=title, command=command, notes=notes)
    write_record(result, out / RESULT)  # last: whoever finds it finds all the rest


def run_of(result: "BoxResult", found: "Sequence[Detections]") -> "DetectionRun":
    """Return what the page shows of a training."""
    from bisector.report.detection_run import DetectionRun

    return DetectionRun(result.head, result.seed, result.scores, found, result.classified)


def say_page(path: Path, runs: "Sequence[DetectionRun]", truth: "BoxSet", **how: Any) -> None:
    """Write the page and say where it is, or what is missing to draw it."""
    try:
        from bisector.report.detection import render_detection_page

        write_whole(path, render_detection_page(runs, truth, **how))
        say(f"The page: {path}")
    except MissingExtraError as error:
        say(f"No page: {error}")
