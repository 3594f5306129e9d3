"""Move the class boundaries of a detector in its stored results: COCO's format in, COCO's format out.

A record with one score keeps its class; with the scores of all classes it may get another.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.detect_options import add_data, add_out, data_options, task_of
from bisector.cli.output import require_folder, say
from bisector.errors import ArgumentError, require
from bisector.files import place_of

if TYPE_CHECKING:
    from torch import Tensor

    from bisector.data.boxes import BoxSet
    from bisector.posthoc import Adjustment

_BACKGROUNDS = {"none": None, "first": 0, "last": -1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect adjust``."""
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS.json", help="in COCO's format")
    add_data(parser, required=True)
    add("--seed", type=int, default=0, help="that draws a long tail or a plugin's pictures (default: 0)")
    add(
        "--counts",
        type=Path,
        metavar="FILE",
        help="training boxes of each class: JSON, CSV (class, count) or .npy (default: those of the training part)",
    )
    add("--tau", type=float, default=1.0, help="strength of the offsets (default: %(default)s)")
    add("--adjustment", metavar="FILE", help="instead: an adjustment.json to apply")
    add(
        "--activation",
        choices=("softmax", "sigmoid"),
        default="softmax",
        help="how the scores of all classes were made (default: %(default)s)",
    )
    add(
        "--background",
        choices=tuple(_BACKGROUNDS),
        default="none",
        help="where the background stands among the scores of all classes (default: %(default)s)",
    )
    add(
        "--threshold",
        type=float,
        default=0.05,
        help="least score of a class of such a box (default: %(default)s)",
    )
    add(
        "--nms-iou",
        type=float,
        metavar="X",
        help="suppress boxes of a class that overlap by more (default: none)",
    )
    add("--per-image", type=int, metavar="N", help="detections kept of an image (default: all; LVIS: 300)")
    add_out(parser, "adjusted.json", "file to write")


def run(arguments: argparse.Namespace, command: str) -> None:
    """Adjust, write, say what to type next."""
    results, out = arguments.results, arguments.out
    require_folder(out.parent, "a file to write in a folder, which is made")
    require(not out.is_dir(), "--out", f"{out}, a folder", "a file to write")
    require(results.is_file(), "results", f"{results}, which is not there", "results in COCO's format")
    require(place_of(out) != place_of(results), "--out", f"{out}, which is read", "another file")
    task = task_of(arguments)

    from bisector.data.tables.class_values import read_class_values
    from bisector.detection.data import load_box_task
    from bisector.measurement.command import command_line

    train = load_box_task(task, arguments.seed, need_images=False).train
    counts = train.counts
    if arguments.counts is not None:
        counts = read_class_values(arguments.counts, train.class_names, ["count", "train_count", "boxes"])
    how = arguments.adjustment or "prior"
    adjustment = offsets_of(how, counts, arguments.tau, train.class_names, "--adjustment")
    written = write_adjusted(
        results,
        adjustment,
        train,
        out,
        background=_BACKGROUNDS[arguments.background],
        activation=arguments.activation,
        threshold=arguments.threshold,
        nms_iou=arguments.nms_iou,
        per_image=arguments.per_image,
    )
    say(f"{adjustment.method}: {adjustment.description}\n{written:,} detections: {out}")
    options = {**data_options(task), "seed": arguments.seed or None}
    say(f"Next: {command_line('bisector detect evaluate', str(out), options=options)}")


def offsets_of(
    how: str, counts: "Tensor", tau: float, class_names: tuple[str, ...], flag: str
) -> "Adjustment":
    """Return the offsets of the training counts for "prior", or those of a file.

    Raises:
        ArgumentError: the file is not there, or of other classes.
    """
    from bisector.data.tables.scores import require_same_classes
    from bisector.posthoc import Adjustment, offsets_from_counts

    if how == "prior":
        return offsets_from_counts(counts, tau, class_names)
    file = Path(how)
    require(file.is_file(), flag, f"{how}, which is not there", "prior, or an adjustment.json")
    found = Adjustment.load(file)
    same = len(found.offsets) == len(class_names)
    require(same, flag, f"{len(found.offsets)} classes", f"the {len(class_names)} of the data")
    if found.class_names:
        require_same_classes(flag, found.class_names, class_names)
    return found


def write_adjusted(
    results: Path,
    adjustment: "Adjustment",
    boxes: "BoxSet",
    out: Path,
    *,
    per_image: int | None = None,
    **how: Any,
) -> int:
    """Adjust the records of a file, of LVIS the 300 best of an image; return how many were written.

    Raises:
        ArgumentError: it is no list of COCO's results; which record.
    """
    from bisector.detection.evaluation.coco_eval import LVIS_MOST
    from bisector.detection.evaluation.detections import read_records, write_records
    from bisector.posthoc import adjust_results

    most = per_image or (LVIS_MOST if boxes.style == "lvis" else None)
    records = read_records(results)
    try:
        adjusted = adjust_results(records, adjustment, boxes.category_ids, per_image=most, **how)
    except ArgumentError as error:
        raise ArgumentError(f"{results}: {error}") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    write_records(out, adjusted)
    return len(adjusted)
