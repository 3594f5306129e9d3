"""Move the class boundaries of a detector, in its stored results or in the decision of a run.

Results in COCO's format get class offsets: a record with one score keeps its class, with the scores of all classes
it may get another. For a run or checkpoint of `bisector detect train` the geometry of its classes is fitted on the
true boxes of the validation part, and left beside it for `bisector detect evaluate RUN --adjust geometry`.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.adjust import MOMENTS
from bisector.cli.detect_options import (
    add_data,
    add_machine,
    data_options,
    device_of,
    task_of,
    warn_of_data,
)
from bisector.cli.output import add_json, require_file, say, tell
from bisector.errors import ArgumentError, require, require_choice, require_integer
from bisector.files import place_of

if TYPE_CHECKING:
    from torch import Tensor

    from bisector.data.boxes import BoxSet
    from bisector.detection.checkpoint import TrainedDetector
    from bisector.detection.geometry import TrueBoxes
    from bisector.posthoc import BaseAdjustment
    from bisector.posthoc.trial import Trials

GEOMETRY = "geometry.safetensors"
_PRIOR = "prior"
_METHODS = {
    "geometry": ".safetensors",
    "fitted": ".json",
    "nearest-mean": ".safetensors",
    "lda": ".safetensors",
}
_BACKGROUNDS = {"none": None, "first": 0, "last": -1}
_OF_RESULTS = ("counts", "tau", "adjustment", "activation", "background", "threshold", "nms_iou", "per_image")
_OF_RUNS = ("moments", "device", "batch_size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector detect adjust``."""
    add = parser.add_argument
    add(
        "detector",
        type=Path,
        metavar="RUN|RESULTS.json",
        help="folder of a run, file.ckpt, or results in COCO's format",
    )
    add(
        "--method",
        help="prior, for results: offsets of the training counts. For a run, fitted on its true boxes: geometry, "
        "how well the embedding of a box fits each class, pooled with its scores; fitted, an offset a class; "
        "nearest-mean or lda, another last layer, to compare with (default: prior, or geometry for a run)",
    )
    add_data(parser, required=False)
    add(
        "--seed",
        type=int,
        help="that draws a long tail or a plugin's pictures (default: the training's, or 0)",
    )
    results = parser.add_argument_group("of results").add_argument
    results(
        "--counts",
        type=Path,
        metavar="FILE",
        help="training boxes of each class: JSON, CSV (class, count) or .npy (default: those of the training part)",
    )
    results("--tau", type=float, help="strength of the offsets (default: 1)")
    results("--adjustment", metavar="FILE", help="instead: an adjustment.json to apply")
    results(
        "--activation",
        choices=("softmax", "sigmoid"),
        help="how the scores of all classes were made (default: softmax)",
    )
    results(
        "--background",
        choices=tuple(_BACKGROUNDS),
        help="where the background stands among the scores of all classes (default: none)",
    )
    results("--threshold", type=float, help="least score of a class of such a box (default: 0.05)")
    results(
        "--nms-iou",
        type=float,
        metavar="X",
        help="suppress boxes of a class that overlap by more (default: none)",
    )
    results(
        "--per-image", type=int, metavar="N", help="detections kept of an image (default: all; LVIS: 300)"
    )
    run = parser.add_argument_group("of a run")
    run.add_argument(
        "--moments",
        choices=MOMENTS,
        help="whose means and covariances: of training boxes, of the held-out ones of validation, of both, or "
        "those that predict best (default: auto)",
    )
    add_machine(run)
    add(
        "--out",
        type=Path,
        help=f"file to write (default: adjusted.json; of a run {GEOMETRY}, or METHOD, beside its checkpoint)",
    )
    add_json(parser)
    parser.set_defaults(batch_size=None)  # where it is not given


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Adjust, write, say what to type next; return what was found."""
    path, method = arguments.detector, arguments.method
    if method is not None:
        require_choice("--method", method, (_PRIOR, *_METHODS))
    if path.suffix == ".json":
        got, legal = (
            f"{method} with {path}, which has no embeddings",
            "a run of bisector detect train in its place",
        )
        require(method in {None, _PRIOR}, "--method", got, legal)
        return _adjust_results(arguments)
    legal = f"one of {', '.join(_METHODS)}; or bisector detect evaluate {path} --adjust prior"
    require(method != _PRIOR, "--method", f"prior with {path}, which is no results.json", legal)
    return _fit(arguments)


def _require_of(arguments: argparse.Namespace, what: str, names: tuple[str, ...]) -> None:
    """Raise `ArgumentError` for an option that only the other input reads."""
    for name in names:
        flag = f"--{name.replace('_', '-')}"
        require(getattr(arguments, name) is None, flag, f"it with {arguments.detector}", f"it with {what}")


def _adjust_results(arguments: argparse.Namespace) -> dict[str, Any]:
    results, out = arguments.detector, arguments.out or Path("adjusted.json")
    _require_of(arguments, "a run", _OF_RUNS)
    require_file(out)
    require(results.is_file(), "results", f"{results}, which is not there", "results in COCO's format")
    require(place_of(out) != place_of(results), "--out", f"{out}, which is read", "another file")
    task, seed = task_of(arguments), arguments.seed or 0

    from bisector.data.tables.class_values import read_class_values
    from bisector.detection.data import load_box_task
    from bisector.measurement.command import command_line

    train = load_box_task(task, seed, need_images=False).train
    counts = train.counts
    if arguments.counts is not None:
        counts = read_class_values(arguments.counts, train.class_names, ["count", "train_count", "boxes"])
    how, tau = arguments.adjustment or _PRIOR, 1.0 if arguments.tau is None else arguments.tau
    adjustment = adjustment_of(how, counts, tau, train.class_names, "--adjustment")
    written = write_adjusted(
        results,
        adjustment,
        train,
        out,
        background=_BACKGROUNDS[arguments.background or "none"],
        activation=arguments.activation or "softmax",
        threshold=0.05 if arguments.threshold is None else arguments.threshold,
        nms_iou=arguments.nms_iou,
        per_image=arguments.per_image,
    )
    say(f"{adjustment.method}: {adjustment.description}\n{written:,} detections: {out}")
    options = {**data_options(task), "seed": seed or None}
    say(f"Next: {command_line('bisector detect evaluate', str(out), options=options)}")
    return {**_record(adjustment), "detections": written, "file": str(out)}


def _fit(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit on the true boxes of a run, say what it gains on held-out ones, write it."""
    path, method = arguments.detector, arguments.method or "geometry"
    _require_of(arguments, "results.json", _OF_RESULTS)
    batch_size = 4 if arguments.batch_size is None else arguments.batch_size
    require_integer("--batch-size", batch_size, least=1)

    from tqdm import tqdm

    from bisector.detection.checkpoint import load_detector
    from bisector.detection.data import load_box_task
    from bisector.detection.geometry import class_geometry, fit_boxes, true_boxes, try_boxes
    from bisector.measurement.command import command_line
    from bisector.measurement.trials import MOST_CELLS
    from bisector.posthoc import GeometryAdjustment

    device = device_of(arguments.device)
    trained = load_detector(path)
    suffix = _METHODS[method]
    beside = trained.path.parent / f"{method}{suffix}"
    out = arguments.out or beside
    require_file(out)
    require(out.suffix == suffix, "--out", out, f"a name that ends with {suffix}")
    tell("detect adjust", trained.unfinished)
    task = task_of(arguments, trained)
    seed = trained.seed if arguments.seed is None else arguments.seed
    splits = load_box_task(task, seed, pixel_range=trained.pixel_range)
    warn_of_data(splits, "adjust")
    trained.require_classes(splits.train)
    network: Any = trained.model.to(device).network
    require(method == "geometry" or arguments.moments is None, "--moments", method, "--method geometry")
    held_out = method == "fitted" or arguments.moments == "held-out"
    total = len(splits.validation) + (0 if held_out else len(splits.train))
    with tqdm(total=total, unit="picture", file=sys.stderr, dynamic_ncols=True, disable=None) as bar:
        how: dict[str, Any] = {"batch_size": batch_size, "progress": bar.update}
        rows = true_boxes(network, splits.validation, **how)
        geometry = None if held_out else class_geometry(network, splits.train, **how)
    how = {
        "method": method,
        "geometry": geometry,
        "moments": arguments.moments or "auto",
        "class_counts": trained.train_counts,
        "class_names": trained.class_names,
    }
    found = fit_boxes(network, rows, seed=seed, **how)
    if rows.scores.numel() > MOST_CELLS:  # to choose anew in every fold takes five times as long as the fit
        how |= {"moments": found.moments} if isinstance(found, GeometryAdjustment) else {}
        how |= {"penalty": found.settings["penalty"]} if method == "fitted" else {}
    tried = try_boxes(network, rows, seed=seed, **how)
    found, numbers = _told(found, rows, *tried, trained, splits.validation.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    found.save(out)
    say(f"Adjustment: {out}")
    given = data_options(task) if arguments.data is not None else {}
    adjust = "geometry" if place_of(out) == place_of(trained.path.parent / GEOMETRY) else str(out)
    options = {**given, "seed": arguments.seed, "adjust": adjust}
    say(f"Next: {command_line('bisector detect evaluate', str(path), options=options)}")
    return {**_record(found), **numbers, "adjustment": str(out)}


def _record(found: "BaseAdjustment") -> dict[str, Any]:
    return {"method": found.method, "description": found.description, "settings": found.settings}


def _told(
    found: "BaseAdjustment",
    rows: "TrueBoxes",
    predictions: "Tensor",
    trials: "Trials",
    trained: "TrainedDetector",
    part: str,
) -> "tuple[BaseAdjustment, dict[str, Any]]":
    """Print what a fit gains on true boxes that it has not seen; return it, with that told, and the numbers."""
    from dataclasses import replace

    from bisector.measurement.next_step import before_and_after, points
    from bisector.metrics.summary import fairness, fairness_changes
    from bisector.posthoc import GeometryAdjustment
    from bisector.report.adjustment import format_adjustment

    (trial,) = trials.tried
    told = f"{found.description}; {before_and_after(trials, trial, f'{trials.on} held out from it')}"
    old, labels, counts = rows.scores.argmax(1), rows.labels, trained.train_counts
    before, after = (fairness(one, labels, len(counts), counts) for one in (old, predictions))
    changes = fairness_changes(old, predictions, labels, len(counts), counts)
    say(f"{found.method}: {told}")
    if isinstance(found, GeometryAdjustment):
        say(f"Fitted: {found.meaning}")
    say(f"\n{format_adjustment(before, after, changes)}\n")
    say(f"{trials.on} of {part}, each adjusted by what was fitted on the other four fifths\n")
    if trial.gain.value < 0:
        lowers = "this lowers" if trial.harms else "this may lower"
        tell("detect adjust", f"{lowers} the balanced accuracy of true boxes: {points(trial.gain)}")
    numbers = {"rows": len(labels), "before": before, "after": after, "changes": changes}
    return replace(found, description=told), numbers  # type: ignore[type-var]


def adjustment_of(
    how: str,
    counts: "Tensor",
    tau: float,
    class_names: tuple[str, ...],
    flag: str,
    trained: "TrainedDetector | None" = None,
) -> "BaseAdjustment":
    """Return the offsets of the training counts for "prior", what a file holds, or the "geometry" of a detector.

    Raises:
        ArgumentError: the file is not there, of other classes or of another detector, or there is no detector.
    """
    from bisector.data.tables.scores import require_same_classes
    from bisector.posthoc import load_adjustment, offsets_from_counts

    if how == _PRIOR:
        return offsets_from_counts(counts, tau, class_names)
    file, legal = Path(how), "prior, or an adjustment.json"
    if trained is None:
        needs = "a run in the place of the results: a geometry asks for the embeddings of the boxes"
        require(how != "geometry" and file.suffix != ".safetensors", flag, how, needs)
    elif how == "geometry":
        file = trained.path.parent / GEOMETRY
        legal = f"what bisector detect adjust {trained.path.parent} leaves"
    require(file.is_file(), flag, f"{file}, which is not there", legal)
    found = load_adjustment(file)
    classes, own = found.num_classes, len(class_names)
    require(classes == own, flag, f"{classes} classes", f"the {own} of the data")
    if found.class_names:
        require_same_classes(flag, found.class_names, class_names)
    if trained is not None:
        rois: Any = trained.model.network.roi_heads
        rois.box_predictor.require_fitting(found)
    return found


def write_adjusted(
    results: Path,
    adjustment: "BaseAdjustment",
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
