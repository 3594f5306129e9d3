"""What the actions of ``bisector detect`` have in common."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.options import add_options, record_of
from bisector.cli.output import say
from bisector.detection.recipe import BoxTask
from bisector.errors import ArgumentError, MissingExtraError, require
from bisector.files import place_of, write_whole

if TYPE_CHECKING:
    import torch

    from bisector.data.boxes import BoxSet, BoxSplits
    from bisector.detection.checkpoint import TrainedDetector
    from bisector.report.detection_run import DetectionRun

DETECTIONS, PAGE = "detections.json", "detections.html"


def add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the flags that name the data."""
    helped = "folder of Pascal VOC, COCO or LVIS; file.json; or plugin.py:option=value:..."
    trained = "" if required else " (default for a model of ours: what it was trained on)"
    parser.add_argument("--data", required=required, help=helped + trained)
    add_options(parser, BoxTask, without=("data",))


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the flags of what runs a trained model."""
    parser.add_argument("--device", help="that computes: cpu, cuda, cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="N", help="pictures at once (default: 4)"
    )


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


def chosen_part(splits: "BoxSplits", part: str | None) -> "tuple[str, BoxSet]":
    """Return the part that was asked for; the test part if none was, or validation where there is no other.

    Raises:
        ArgumentError: the data have no such part.
    """
    if part is None:
        part = "validation" if splits.test is None else "test"
    found: BoxSet | None = getattr(splits, part)
    if found is None:
        raise ArgumentError(f"--part: got {part}, which these data do not have; expected train or validation")
    return part, found


def device_of(name: str | None) -> "torch.device":
    """Return the device that was named, or a GPU if there is one.

    Raises:
        ArgumentError: it is none, or not there.
    """
    import torch

    from bisector.embedding.model import require_device

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return require_device(torch.device(name))
    except RuntimeError:
        raise ArgumentError(f"--device: got {name!r}; expected cpu, cuda or cuda:1") from None


def tell_left_out(splits: "BoxSplits", action: str) -> None:
    """Say on stderr what of the data could not be used, was drawn, or is in two parts."""
    parts = [part for part in (splits.train, splits.validation, splits.test) if part is not None]
    for line in dict.fromkeys(line for part in parts for line in part.left_out):
        print(f"bisector detect {action}: data: {line}", file=sys.stderr)


def require_out(folder: Path, inputs: Sequence[Path] = ()) -> None:
    """Raise `ArgumentError` where a file that is read, or what a training left, would be written over."""
    from bisector.training.checkpoints import LAST
    from bisector.training.results import RESULT
    from bisector.training.settings import SETTINGS

    held = next((name for name in (SETTINGS, LAST) if (folder / name).is_file()), None)
    require(held is None, "--out", f"{folder}, which holds a training ({held})", "another folder")
    written = {place_of(folder / name) for name in (DETECTIONS, PAGE, RESULT)}
    for path in inputs:
        got = f"{folder}, where {path.name} would be written over"
        require(place_of(path) not in written, "--out", got, "another folder")


def finish(
    run: "DetectionRun", truth: "BoxSet", out: Path, command: str, title: str, *, notes: Sequence[str] = ()
) -> None:
    """Print the scores, write detections.json and the page."""
    from bisector.detection.evaluation import write_detections
    from bisector.report.detection_text import format_classes, format_scores

    write_detections(out / DETECTIONS, truth, run.detections)
    lines = [title, "", format_scores([(run.name, run.scores)]), "", format_classes(run.scores, most=20)]
    if run.classified is not None:
        share = 100 * run.classified.balanced_accuracy
        lines += ["", f"Given the true boxes, {share:.1f}% of them get their class (mean over the classes)."]
    say("\n".join([*lines, *(f"\nNote: {note}" for note in notes)]))
    say(f"\nDetections: {out / DETECTIONS}")
    say_page(out / PAGE, [run], truth, title=title, command=command, notes=notes)


def say_page(path: Path, runs: "Sequence[DetectionRun]", truth: "BoxSet", **how: Any) -> None:
    """Write the page and say where it is, or what is missing to draw it."""
    try:
        from bisector.report.detection import render_detection_page

        write_whole(path, render_detection_page(runs, truth, **how))
        say(f"The page: {path}")
    except MissingExtraError as error:
        say(f"No page: {error}")
