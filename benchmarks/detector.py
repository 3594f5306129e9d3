"""What IGAM costs a detector: training steps of a torchvision R-CNN, plain and with the head attached, in turns."""

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.growth import growth
from benchmarks.long_tail import LVIS_INSTANCES, lvis_like_counts
from benchmarks.script import Script
from benchmarks.tables import Table, seconds
from bisector.benchmarks.memory import binary, peak_extra_bytes
from bisector.benchmarks.timing import wait
from bisector.cli.measure import size_in_bytes
from bisector.cli.output import progress
from bisector.detection.attaching import attach
from bisector.detection.models import build_detector
from bisector.errors import ArgumentError, require, require_integer
from bisector.heads import IGAM
from bisector.information.meter import InformationMeter


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one training step and of what in it is ours.

    Args:
        whole: forward, backward, and the meter.
        classify: of these, forward and backward of the classification alone, measured apart.
    """

    whole: float
    classify: float


@dataclass(frozen=True)
class DetectorRun:
    """Two models whose steps took turns.

    Args:
        model: name.
        classes: C + 1.
        images: of a step.
        size: of an image, height and width.
        rois: boxes classified in a step.
        plain: torchvision's own steps.
        attached: steps with IGAM attached, at the same places.
        observed: objects that the meter takes in a step.
        observe: seconds of that, the mean of many steps: the meter queues rows and folds them in now and then.
        refresh: seconds of new margins, once an epoch.
    """

    model: str
    classes: int
    images: int
    size: tuple[int, int]
    rois: int
    plain: list[StepTimes]
    attached: list[StepTimes]
    observed: int
    observe: float
    refresh: float

    @property
    def overheads(self) -> list[float]:
        """Of each pair of steps: how much longer the attached one took, as a share of the plain one."""
        return [more.whole / less.whole - 1 for less, more in zip(self.plain, self.attached, strict=True)]

    @property
    def parts(self) -> float:
        """What the parts that differ take more, measured apart, as a share of the plain step."""
        more = median(step.classify for step in self.attached)
        less = median(step.classify for step in self.plain)
        return (more - less + self.observe) / median(step.whole for step in self.plain)


@dataclass(frozen=True)
class Machinery:
    """Memory of everything that IGAM adds, in bytes.

    Args:
        classes: C + 1.
        dim: D.
        rows: embeddings observed in an epoch.
        budget: of the meter, or None.
        held: tensors of the meter after the epoch.
        process: what the process took more, at its peak, while it observed and refreshed.
        loss: scratch of one loss with its gradients, at 512 boxes.
        sketched: classes that the meter held approximately.
        observe_seconds: for all rows.
        refresh_seconds: amounts and margins, once.
    """

    classes: int
    dim: int
    rows: int
    budget: int | None
    held: int
    process: int | None
    loss: int
    sketched: int
    observe_seconds: float
    refresh_seconds: float


def main(words: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    script = Script(
        "detector", "what IGAM costs a training step of a torchvision R-CNN, and its memory at LVIS's size"
    )
    add = script.parser.add_argument
    add("--model", default="fasterrcnn_resnet50_fpn", help="default: %(default)s")
    add("--classes", type=int, default=91, help="with the background (default: %(default)s)")
    add("--size", default="800x1066", help="of the images, HEIGHTxWIDTH (default: %(default)s)")
    add("--images", type=int, default=2, help="of a step (default: %(default)s)")
    add("--repeats", type=int, default=5, help="pairs of steps (default: %(default)s)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    add(
        "--machinery",
        default="1204x1024",
        metavar="CxD",
        help="classes with the background, and dimensions, whose memory is measured; 0 for none "
        "(default: %(default)s)",
    )
    add("--rows", type=int, help="of its epoch (default: the boxes of LVIS's training part)")
    add("--memory-budget", metavar="SIZE", help="of its meter, as 2GiB (default: no limit)")

    def measure(arguments: argparse.Namespace) -> dict[str, Any]:
        script.begin(arguments.device)
        height, width = _pair("--size", arguments.size)
        machinery = None if arguments.machinery == "0" else _pair("--machinery", arguments.machinery)
        for name, least in (("classes", 3), ("images", 1)):
            require_integer(f"--{name}", getattr(arguments, name), least=least)
        if machinery is not None:
            legal = "3 classes and 3 dimensions, or more"
            require(min(machinery) > 2, "--machinery", arguments.machinery, legal)
            if arguments.rows is not None:
                require_integer("--rows", arguments.rows, least=machinery[0])
        budget = None if arguments.memory_budget is None else size_in_bytes(arguments.memory_budget)
        run = measure_detector(
            arguments.model,
            classes=arguments.classes,
            size=(height, width),
            images=arguments.images,
            repeats=arguments.repeats,
            device=arguments.device,
            progress=progress,
        )
        held = None
        if machinery is not None:
            rows = LVIS_INSTANCES if arguments.rows is None else arguments.rows
            held = measure_machinery(*machinery, rows=rows, budget=budget, progress=progress)
        script.show(detector_table(run))
        if held is not None:
            script.show(machinery_table(held))
        return detector_record(run, held)

    return script.main(measure, words)


def measure_detector(
    model: str,
    *,
    classes: int = 91,
    size: tuple[int, int] = (800, 1066),
    images: int = 2,
    repeats: int = 5,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda text: None,
) -> DetectorRun:
    """Time training steps of one model, plain and with IGAM, on the same random images with 8 boxes each.

    Args:
        model: name, as `bisector detect train` takes it.
        classes: C + 1, with the background.
        size: height and width of the images, which the model is told not to resize.
        images: of a step.
        repeats: pairs of steps that count; one before them warms up.
        device: to compute on.
        progress: told which round it is.
    """
    require_integer("repeats", repeats, least=1)
    place = torch.device(device)
    made = {}
    for name in ("plain", "attached"):
        torch.manual_seed(0)
        detector = build_detector(model, classes, image_size=min(size))
        detector.transform.max_size = max(size)
        if name == "attached":
            attach(detector, "igam")
            _give_margins(detector.roi_heads.head)
        made[name] = detector.to(place).train()
    batch = _batch(images, size, classes, place)
    times: dict[str, list[StepTimes]] = {"plain": [], "attached": []}
    rois = 0
    for turn in range(repeats + 1):
        progress(f"round {turn} of {repeats}")
        for name in ("plain", "attached") if turn % 2 else ("attached", "plain"):
            torch.manual_seed(turn)
            found, rois = _step(made[name], batch, classes, place)
            if turn:
                times[name].append(found)
    observed, observe, refresh = _meter(made["attached"].roi_heads.head, rois // 4, place)
    return DetectorRun(
        model, classes, images, size, rois, times["plain"], times["attached"], observed, observe, refresh
    )


def measure_machinery(
    classes: int = 1204,
    dim: int = 1024,
    *,
    rows: int = LVIS_INSTANCES,
    budget: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Machinery:
    """Feed a head with an epoch of embeddings whose classes are as unequal as LVIS's, and refresh it.

    Args:
        classes: C + 1, with the background.
        dim: D.
        rows: embeddings of objects.
        budget: bytes that the meter may hold; None for no limit.
        progress: told how far it is.
    """
    counts = lvis_like_counts(rows, classes - 1)
    labels = torch.repeat_interleave(torch.arange(1, classes), counts)
    labels = labels[torch.randperm(rows, generator=torch.Generator().manual_seed(0))]
    information = {"memory_budget": budget}
    head = IGAM(dim, classes, background=0, information=information)
    draw = torch.Generator().manual_seed(1)
    tilt = torch.rand(dim, generator=draw)
    grown, taken = growth(), 0.0
    for start in range(0, rows, 4096):
        progress(f"{start:,} of {rows:,} embeddings")
        mine = labels[start : start + 4096]
        embeddings = torch.randn(len(mine), dim, generator=draw).mul_(tilt).relu_()
        begin = time.perf_counter()
        head.observe(embeddings, mine)
        taken += time.perf_counter() - begin
    meter = head.information
    assert isinstance(meter, InformationMeter)
    held = meter.nbytes
    begin = time.perf_counter()
    info = head.refresh()
    refresh = time.perf_counter() - begin
    process = grown()
    x = torch.randn(512, dim, requires_grad=True)
    y = torch.randint(classes, (512,))
    scratch = peak_extra_bytes(lambda: head(x, y).backward())
    return Machinery(
        classes=classes,
        dim=dim,
        rows=rows,
        budget=budget,
        held=held,
        process=process,
        loss=scratch,
        sketched=sum(form == "sketch" for form in info.form),
        observe_seconds=taken,
        refresh_seconds=refresh,
    )


def _step(
    model: Any,
    batch: tuple[list[Tensor], list[dict[str, Tensor]]],
    classes: int,
    device: torch.device,
) -> tuple[StepTimes, int]:
    """One step, and its classification once more by itself."""
    seen: list[Tensor] = []
    heads = model.roi_heads
    hook = heads.box_head.register_forward_hook(lambda module, given, out: seen.append(out.detach()))
    model.zero_grad(set_to_none=True)
    begin = _now(device)
    losses = model(*batch)
    sum(losses.values()).backward()
    if hasattr(heads, "observe"):
        heads.observe()
    end = _now(device)
    hook.remove()
    x = seen[0].flatten(1).requires_grad_()
    labels = torch.arange(len(x), device=device) % classes
    start = _now(device)
    torch.autograd.backward(_classification(model, x, labels))
    classify = _now(device) - start
    return StepTimes(end - begin, classify), len(x)


def _meter(head: IGAM, rows: int, device: torch.device, steps: int = 300) -> tuple[int, float, float]:
    """Rows of a step, mean seconds of observing them when classes are filled, seconds of a refresh.

    A quarter of the classified boxes are objects, as torchvision's sampler takes at the most; classes are as
    unequal as LVIS's.
    """
    draw = torch.Generator().manual_seed(0)
    counts = lvis_like_counts(max(10_000, head.num_classes), head.num_classes - 1).double()
    embeddings = torch.randn(rows, head.in_features, generator=draw).relu_().to(device)
    labels = [1 + torch.multinomial(counts, rows, True, generator=draw).to(device) for _ in range(2 * steps)]
    for mine in labels[:steps]:
        head.observe(embeddings, mine)
    begin = _now(device)
    for mine in labels[steps:]:
        head.observe(embeddings, mine)
    middle = _now(device)
    head.refresh()
    return rows, (middle - begin) / steps, _now(device) - middle


def _classification(model: Any, x: Tensor, labels: Tensor) -> Tensor:
    predictor = model.roi_heads.box_predictor
    if hasattr(predictor, "loss"):
        loss: Tensor = predictor.loss(x, labels)
        return loss
    return nn.functional.cross_entropy(predictor.cls_score(x), labels)


def _give_margins(head: IGAM) -> None:
    amounts = torch.rand(head.num_classes, generator=torch.Generator().manual_seed(0)) * 100 + 50
    head.set_amounts(amounts)


def _batch(
    images: int, size: tuple[int, int], classes: int, device: torch.device
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    draw = torch.Generator().manual_seed(0)
    height, width = size
    pictures = [torch.rand(3, height, width, generator=draw).to(device) for _ in range(images)]
    targets = []
    for _ in range(images):
        corners = torch.rand(8, 2, generator=draw) * torch.tensor([width, height]) * 0.6
        extent = (0.1 + 0.3 * torch.rand(8, 2, generator=draw)) * torch.tensor([width, height])
        labels = torch.randint(1, classes, (8,), generator=draw)
        targets.append(
            {"boxes": torch.cat([corners, corners + extent], 1).to(device), "labels": labels.to(device)}
        )
    return pictures, targets


def _now(device: torch.device) -> float:
    wait(device)
    return time.perf_counter()


def detector_table(run: DetectorRun) -> Table:
    """Return the steps of both models, and the parts that differ."""
    rows = []
    for name, steps in (("torchvision", run.plain), ("with IGAM", run.attached)):
        whole, classify = (median(getattr(step, part) for step in steps) for part in ("whole", "classify"))
        observe = run.observe if steps is run.attached else 0.0
        share = f"{median(run.overheads):+.1%}" if steps is run.attached else "–"
        rows.append([name, seconds(whole), share, seconds(classify), seconds(observe)])
    pairs = ", ".join(f"{overhead:+.1%}" for overhead in run.overheads)
    height, width = run.size
    notes = [
        f"Medians of {len(run.plain)} steps of each, in turns, after one that warms up; pair by pair: {pairs}.",
        f"Measured apart, what differs (classification and meter) makes {run.parts:+.2%} of the plain step.",
        f"The meter: mean of 300 steps of {run.observed} objects, once 300 are in it; its refresh, once an epoch, "
        f"took {seconds(run.refresh)} s.",
    ]
    title = f"{run.model}, {run.classes} classes: {run.images} images of {height} x {width}, {run.rois} boxes"
    return Table(title, ["training step", "seconds", "", "classification", "meter"], rows, notes)


def machinery_table(found: Machinery) -> Table:
    """Return the memory of all that IGAM adds."""
    rows = [
        ["the meter's tensors after an epoch", binary(found.held)],
        ["scratch of one loss with gradients, 512 boxes", binary(found.loss)],
        ["classes held approximately", f"{found.sketched:,}"],
        ["observe, all rows", seconds(found.observe_seconds)],
        ["refresh, once an epoch", seconds(found.refresh_seconds)],
    ]
    if found.process is not None:
        rows.insert(1, ["the process at its peak, more than before", binary(found.process)])
    limit = "no limit" if found.budget is None else f"a budget of {binary(found.budget)}"
    title = f"{found.classes:,} classes x {found.dim:,} dimensions, {found.rows:,} embeddings, {limit}"
    return Table(title, ["IGAM's machinery", ""], rows)


def detector_record(run: DetectorRun, machinery: Machinery | None) -> dict[str, Any]:
    """Return everything as builtins, for JSON."""
    found = {**asdict(run), "overheads": run.overheads, "parts": run.parts}
    return {"step": found, "machinery": None if machinery is None else asdict(machinery)}


def _pair(name: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or not int(found[1]) or not int(found[2]):
        raise ArgumentError(f"{name}: got {text!r}; expected two numbers such as 800x1066")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    sys.exit(main())
