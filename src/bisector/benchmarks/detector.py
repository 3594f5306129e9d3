"""What IGAM costs a detector: training steps of a torchvision R-CNN, plain and with the head attached, in turns."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from bisector.benchmarks.long_tail import LVIS_INSTANCES, lvis_like_counts
from bisector.benchmarks.memory import (
    forget_process_peak,
    peak_extra_bytes,
    process_bytes,
    process_peak_bytes,
)
from bisector.benchmarks.timing import wait
from bisector.detection.attaching import attach
from bisector.detection.models import build_detector
from bisector.errors import require_integer
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
    forget_process_peak()
    before, seconds = process_bytes(), 0.0
    for start in range(0, rows, 4096):
        progress(f"{start:,} of {rows:,} embeddings")
        mine = labels[start : start + 4096]
        embeddings = torch.randn(len(mine), dim, generator=draw).mul_(tilt).relu_()
        begin = time.perf_counter()
        head.observe(embeddings, mine)
        seconds += time.perf_counter() - begin
    meter = head.information
    assert isinstance(meter, InformationMeter)
    held = meter.nbytes
    begin = time.perf_counter()
    info = head.refresh()
    refresh = time.perf_counter() - begin
    peak = process_peak_bytes()
    x = torch.randn(512, dim, requires_grad=True)
    y = torch.randint(classes, (512,))
    scratch = peak_extra_bytes(lambda: head(x, y).backward())
    return Machinery(
        classes=classes,
        dim=dim,
        rows=rows,
        budget=budget,
        held=held,
        process=None if peak is None or before is None else peak - before,
        loss=scratch,
        sketched=sum(form == "sketch" for form in info.form),
        observe_seconds=seconds,
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
