"""Score a detector on boxes: AP in all its kinds, by class and by frequency, and the bias between classes.

The detector is a run or a checkpoint of `bisector detect train`, or the results of any other detector in COCO's
format. --adjust moves its class boundaries first.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.detect_adjust import adjustment_of, write_adjusted
from bisector.cli.detect_options import (
    DETECTIONS,
    PAGE,
    add_data,
    add_machine,
    add_out,
    device_of,
    finish,
    task_of,
    warn_of_data,
)
from bisector.cli.output import require_folder, tell
from bisector.detection.recipe import PARTS
from bisector.errors import require, require_integer
from bisector.files import place_of

if TYPE_CHECKING:
    import torch

    from bisector.data.boxes import BoxSet
    from bisector.detection.checkpoint import TrainedDetector
    from bisector.detection.evaluation import Detections
    from bisector.detection.train import BoxResult
    from bisector.posthoc import BaseAdjustment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect evaluate``."""
    add = parser.add_argument
    add("detector", type=Path, help="folder of a run, file.ckpt, or results.json in COCO's format")
    add_data(parser, required=False)
    add("--part", choices=PARTS, help="of the data (default: test, or validation)")
    add(
        "--seed",
        type=int,
        help="that draws a validation part or a plugin's pictures (default: that of the training, or 0)",
    )
    add(
        "--adjust",
        metavar="prior|geometry|FILE",
        help="move the class boundaries: by offsets of the training counts or of an adjustment.json; of a run also "
        "by the geometry that bisector detect adjust left beside it, or a .safetensors elsewhere",
    )
    add("--tau", type=float, default=1.0, help="strength of --adjust prior (default: %(default)s)")
    add_machine(parser)
    add_out(parser, "runs/detect-evaluate", "folder for detections.json, result.json and the page")


def run(arguments: argparse.Namespace, command: str) -> "BoxResult":
    """Detect, or read what was detected; score, print, write the files."""
    path, out = arguments.detector, arguments.out
    require_folder(out)
    require_integer("--batch-size", arguments.batch_size, least=1)
    stored = path.suffix == ".json"
    there = path.is_file() or not stored
    require(there, "detector", f"{path}, which is not there", "a run, file.ckpt or results.json")
    _require_out(out, path)

    from bisector.detection.checkpoint import load_detector
    from bisector.detection.data import load_box_task
    from bisector.detection.evaluation import evaluate_boxes
    from bisector.detection.predict import classify_truth
    from bisector.detection.train import BoxResult

    device = None if stored else device_of(arguments.device)
    trained = None if stored else load_detector(path)
    task = task_of(arguments, trained)
    seed = arguments.seed if arguments.seed is not None else trained.seed if trained else 0
    pixel_range = trained.pixel_range if trained else None
    splits = load_box_task(task, seed, need_images=not stored, pixel_range=pixel_range)
    warn_of_data(splits, "evaluate")
    part = arguments.part or ("validation" if splits.test is None else "test")
    truth: Any = getattr(splits, part)
    require(truth is not None, "--part", f"{part}, which these data do not have", "train or validation")
    counts, image_counts = splits.train.counts, splits.train.image_counts
    if trained is not None:
        tell("detect evaluate", trained.unfinished)
        trained.require_classes(truth)
        trained.detect_like(truth)
        counts, image_counts = trained.train_counts, trained.train_image_counts
    adjustment = adjusting = None
    if arguments.adjust is not None:
        given = (arguments.adjust, counts, arguments.tau, truth.class_names, "--adjust")
        adjustment = adjustment_of(*given, trained)
        adjusting = f"{adjustment.method}, {adjustment.description}"
    if trained is None:
        found = _stored(path, truth, adjustment, out / DETECTIONS)
    else:
        out.mkdir(parents=True, exist_ok=True)
        found = _detected(trained, truth, adjustment, device, arguments.batch_size)
    scores = evaluate_boxes(truth, found, train_counts=counts, train_image_counts=image_counts)
    classified = None
    if trained is not None:
        network, frequency = trained.model.network, scores.class_frequency
        classified = classify_truth(network, truth, frequency, batch_size=arguments.batch_size)
    result = BoxResult(
        head=str(path) if trained is None else trained.head,
        seed=seed,
        model=str(path) if trained is None else trained.recipe.model,
        data=task.data,
        part=part,
        scores=scores,
        classified=classified,
        adjustment=adjusting,
    )
    notes = [] if adjusting is None else [f"Adjusted: {adjusting}"]
    if part == "validation" and trained is not None and arguments.adjust not in {None, "prior"}:
        notes.append("Where the adjustment was fitted on these very boxes, the scores flatter.")
    finish(result, found, truth, out, command, f"{result.head} on {truth.name}", notes=notes)
    return result


def _require_out(out: Path, detector: Path) -> None:
    """Raise `ArgumentError` where what a training left, or the file that is read, would be written over."""
    from bisector.training.checkpoints import LAST
    from bisector.training.results import RESULT
    from bisector.training.settings import SETTINGS

    held = next((name for name in (SETTINGS, LAST) if (out / name).is_file()), None)
    require(held is None, "--out", f"{out}, which holds a training ({held})", "another folder")
    written = {place_of(out / name) for name in (DETECTIONS, PAGE, RESULT)}
    got = f"{out}, where {detector.name} would be written over"
    require(place_of(detector) not in written, "--out", got, "another folder")


def _stored(
    path: Path, truth: "BoxSet", adjustment: "BaseAdjustment | None", adjusted: Path
) -> "list[Detections]":
    """What a file holds, with class offsets where there are any."""
    from bisector.detection.evaluation import read_detections

    found = read_detections(path, truth)
    if adjustment is None:
        return found
    several = any(one.class_scores is not None for one in found)
    expected = "one score a box; bisector detect adjust moves these, and is told how they were made"
    require(not several, "--adjust", f"{path} with the scores of all classes", expected)
    write_adjusted(path, adjustment, truth, adjusted)
    return read_detections(adjusted, truth)


def _detected(
    trained: "TrainedDetector",
    truth: "BoxSet",
    adjustment: "BaseAdjustment | None",
    device: "torch.device | None",
    batch_size: int,
) -> "list[Detections]":
    """What the model detects, and from now on decides, with an adjustment where there is one."""
    from tqdm import tqdm

    from bisector.detection.predict import detect

    network: Any = trained.model.to(device).network
    network.roi_heads.box_predictor.adjustment = adjustment
    with tqdm(total=len(truth), unit="picture", file=sys.stderr, dynamic_ncols=True, disable=None) as bar:
        return detect(network, truth, batch_size=batch_size, progress=bar.update)
