"""Score a detector on boxes: AP in all its kinds, by class and by frequency, and the bias between classes.

The detector is a run or a checkpoint of `bisector detect train`, or the results of any other detector in COCO's
format. --adjust moves its class boundaries first.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bisector.cli.detect_adjust import offsets_of, per_image, write_adjusted
from bisector.cli.detect_options import (
    DETECTIONS,
    add_data,
    add_machine,
    chosen_part,
    device_of,
    finish,
    require_out,
    task_of,
    tell_left_out,
)
from bisector.cli.output import require_folder
from bisector.detection.recipe import PARTS
from bisector.errors import ArgumentError, require, require_integer

if TYPE_CHECKING:
    from bisector.data.boxes import BoxSet
    from bisector.detection.checkpoint import TrainedDetector
    from bisector.detection.evaluation import Detections
    from bisector.posthoc import Adjustment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect evaluate``."""
    parser.add_argument(
        "detector", type=Path, help="folder of a run, file.ckpt, or results.json in COCO's format"
    )
    add_data(parser, required=False)
    parser.add_argument("--part", choices=PARTS, help="of the data (default: test, or validation)")
    parser.add_argument(
        "--seed",
        type=int,
        help="that draws a validation part or a plugin's pictures (default: that of the training, or 0)",
    )
    parser.add_argument(
        "--adjust",
        metavar="prior|FILE",
        help="add class offsets: those of the training counts, or of an adjustment.json",
    )
    parser.add_argument(
        "--tau", type=float, default=1.0, help="strength of --adjust prior (default: %(default)s)"
    )
    add_machine(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/detect-evaluate"),
        help="folder for detections.json, result.json and the page (default: %(default)s)",
    )


def run(arguments: argparse.Namespace, command: str) -> None:
    """Detect, or read what was detected; score, print, write the files."""
    require_folder(arguments.out)
    require_integer("--batch-size", arguments.batch_size, least=1)
    path: Path = arguments.detector
    stored = path.suffix == ".json"
    if stored and not path.is_file():
        raise ArgumentError(
            f"detector: got {path}, which is not there; expected a run, file.ckpt or results.json"
        )
    require_out(arguments.out, [path] if stored else [])

    import torch

    from bisector.detection.checkpoint import load_detector
    from bisector.detection.data import load_box_task
    from bisector.detection.evaluation import evaluate_boxes
    from bisector.detection.measure import classify_truth
    from bisector.detection.results import BoxResult
    from bisector.report.detection_run import DetectionRun
    from bisector.training.results import RESULT

    device = torch.device("cpu") if stored else device_of(arguments.device)
    trained = None if stored else load_detector(path)
    task = task_of(arguments, trained)
    seed = arguments.seed if arguments.seed is not None else trained.seed if trained else 0
    splits = load_box_task(
        task, seed, need_images=not stored, pixel_range=trained.pixel_range if trained else None
    )
    tell_left_out(splits, "evaluate")
    part, truth = chosen_part(splits, arguments.part)
    counts, image_counts = splits.train.counts, splits.train.image_counts
    if trained is not None:
        if trained.unfinished:
            print(f"bisector detect evaluate: {trained.unfinished}", file=sys.stderr)
        trained.require_classes(truth)
        trained.detect_like(truth)
        counts, image_counts = trained.train_counts, trained.train_image_counts
    adjustment = None
    if arguments.adjust is not None:
        adjustment = offsets_of(arguments.adjust, counts, arguments.tau, truth.class_names, "--adjust")
    if trained is None:
        found = _stored(path, truth, adjustment, arguments.out / DETECTIONS)
    else:
        arguments.out.mkdir(parents=True, exist_ok=True)
        found = _asked(trained, truth, adjustment, device, arguments.batch_size)
    scores = evaluate_boxes(truth, found, train_counts=counts, train_image_counts=image_counts)
    classified = None
    if trained is not None and adjustment is None:  # it is asked without the offsets
        classified = classify_truth(
            trained.model.network, truth, scores.class_frequency, batch_size=arguments.batch_size
        )
    adjusting = None if adjustment is None else f"{adjustment.method}, {adjustment.description}"
    name = str(path) if trained is None else trained.head
    result = BoxResult(
        head=name,
        seed=seed,
        model=str(path) if trained is None else trained.recipe.model,
        data=task.data,
        part=part,
        scores=scores,
        classified=classified,
        adjustment=adjusting,
    )
    notes = [] if adjusting is None else [f"Adjusted: {adjusting}"]
    shown = DetectionRun(name, seed, scores, found, classified=classified)
    arguments.out.mkdir(parents=True, exist_ok=True)
    finish(shown, truth, arguments.out, command, f"{name} on {truth.name}", notes=notes)
    result.write(arguments.out / RESULT)


def _stored(
    path: Path, truth: "BoxSet", adjustment: "Adjustment | None", adjusted: Path
) -> "list[Detections]":
    """What a file holds, with class offsets where there are any."""
    from bisector.detection.evaluation import read_detections

    found = read_detections(path, truth)
    if adjustment is None:
        return found
    several = any(one.class_scores is not None for one in found)
    expected = "one score a box; bisector detect adjust moves these, and is told how they were made"
    require(not several, "--adjust", f"{path} with the scores of all classes", expected)
    write_adjusted(path, adjustment, truth, adjusted, per_image=per_image(truth))
    return read_detections(adjusted, truth)


def _asked(
    trained: "TrainedDetector",
    truth: "BoxSet",
    adjustment: "Adjustment | None",
    device: object,
    batch_size: int,
) -> "list[Detections]":
    """What the model detects, with class offsets where there are any."""
    from contextlib import nullcontext

    from tqdm import tqdm

    from bisector.detection.adjusted import adjusted_scores
    from bisector.detection.predict import detect

    network = trained.model.to(device).network
    offsets = nullcontext() if adjustment is None else adjusted_scores(network, adjustment)
    with (
        tqdm(total=len(truth), unit="picture", file=sys.stderr, dynamic_ncols=True, disable=None) as bar,
        offsets,
    ):
        return detect(network, truth, batch_size=batch_size, progress=bar.update)
