"""What the tests of the reports are of, with names that try to become code."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from bisector.data.boxes import BoxSet, Picture
from bisector.detection.evaluation import Detections, evaluate_boxes
from bisector.metrics.summary import METRICS
from bisector.metrics.verification import Verification, verify
from bisector.report.detection_run import DetectionRun
from bisector.training.results import Comparison, Decided, Plane, Run

HEADS = [
    "linear-softmax",
    "normalized-softmax",
    "am-softmax",
    "enhanced-am-softmax",
    "c2am",
    "igam:preset=paper",
    "igam:max_margin=0.3:direction=press",
    "logit-adjusted",
]
PLANES = ["linear-softmax", "normalized-softmax", "am-softmax", "igam:preset=paper"]
HOSTILE = [
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "quoted \"name\" with 'both'",
    "naïve café 猫 🐈",
    "<b>bold</b> & <a href='javascript:window.pwned=1'>link</a>",
    "%{x} $x^2$ &lt;",
    "<!--<script>",
    "${window.pwned=1}`",
    "a name that is far too long to be put under any axis of any figure on this page",
    "line\nbreak\u2028\tand tab",
]
PROFILE = [109, 70, 46, 29, 19, 12, 8, 5, 3, 2]
BOXES = torch.tensor([3, 8, 40, 90, 400, 0])  # of training


def make_run(head: str, seed: int, counts: list[int], rng: random.Random) -> Run:
    skill = HEADS.index(head) / 40
    accuracy = [
        min(1.0, max(0.0, 0.55 + skill + 0.1 * math.log(n) + rng.gauss(0, 0.05) - 0.02 * (c == 8)))
        for c, n in enumerate(counts)
    ]
    amounts = [
        30 - 20 * a + rng.gauss(0, 2) if n > 1 else math.nan for a, n in zip(accuracy, counts, strict=True)
    ]
    metrics = {info.key: 2 * rng.random() - info.key.startswith("r_") for info in METRICS}
    metrics |= {info.key: metrics[info.key] / 2 for info in METRICS if info.unit == "%"}
    pairwise = head.startswith(("igam", "c2am"))
    guide = [0.3 * (a or 0) / 30 for a in (0 if math.isnan(a) else a for a in amounts)]
    return Run(
        head=head,
        seed=seed,
        metrics=metrics,
        class_accuracy=accuracy,
        class_amount=amounts,
        class_count=counts,
        amount_history=[
            [a + 8 * math.exp(-step / 5) + rng.gauss(0, 0.3) for a in amounts] for step in range(20)
        ]
        if head.startswith("igam")
        else [],
        margins=[[max(0.0, r - c) for c in guide] for r in guide] if pairwise else None,
        direction=("press" if "press" in head else "relax") if pairwise else None,
        seconds=rng.uniform(5, 9),
    )


def make_plane(head: str, rng: random.Random) -> Plane:
    angles = [2 * math.pi * c / 10 + rng.uniform(-0.25, 0.25) for c in range(10)]
    rng.shuffle(angles)
    labels = [i % 10 for i in range(540)]
    points = []
    for label in labels:
        angle, length = rng.gauss(angles[label], 0.12), rng.lognormvariate(1.5, 0.35)
        points.append([length * math.cos(angle), length * math.sin(angle)])
    lengths = [rng.uniform(0.5, 1.5) for _ in angles]
    return Plane(
        head=head,
        points=points,
        labels=labels,
        weights=[[r * math.cos(a), r * math.sin(a)] for a, r in zip(angles, lengths, strict=True)],
        accuracy=0.71,
        bias=[rng.gauss(0, 1) for _ in angles] if head == "linear-softmax" else None,
    )


def make_comparison(
    class_names: Sequence[str] = tuple("0123456789"),
    seeds: int = 2,
    *,
    reshuffled: bool = True,
) -> Comparison:
    rng = random.Random(0)
    tails = [rng.sample(PROFILE, 10) for _ in range(seeds)]
    counts = [tails[seed if reshuffled else 0] for seed in range(seeds)]
    return Comparison(
        command="bisector compare --data digits --heads " + ",".join(HEADS),
        version="0.1.0",
        data="digits",
        imbalance=50.0,
        class_names=list(class_names),
        train_counts=counts[0],
        test_counts=[54] * 10,
        recipe={"epochs": 40, "batch_size": 64, "optimizer": "AdamW, one-cycle", "plane_epochs": 120},
        runs=[make_run(head, seed, counts[seed], rng) for seed in range(seeds) for head in HEADS],
        planes=[make_plane(head, rng) for head in PLANES],
    )


def with_decisions(comparison: Comparison, *heads: str) -> Comparison:
    """The comparison with further runs of these heads, decided by geometry, a little better in all."""
    runs = []
    for run in comparison.runs:
        better = {key: value * (1.1 + 0.01 * run.seed) for key, value in run.metrics.items()}
        decided = Decided("geometry", "told", "decision.safetensors", better, run.class_accuracy)
        runs += replace(run, decided=decided if run.head in heads else None).rows()
    return replace(comparison, runs=runs)


def make_verification(seed: int, noise: float = 1.0, *, carried: bool = True) -> Verification:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(30).repeat_interleave(8)
    x = torch.randn(30, 16, generator=generator)[labels]
    x = x + noise * torch.randn(x.shape, generator=generator)
    return verify(x, labels, fars=[1e-2, 1e-3, 1e-6], thresholds={1e-2: 0.6} if carried else None)


class Composed(BoxSet):
    composed = True


def make_truth(folder: Path, names=HOSTILE[:6], kind=BoxSet, *, alone=False) -> BoxSet:
    """Pictures of noise with rectangles of a colour for each class; the last class has none."""
    g = torch.Generator().manual_seed(0)
    held, first = [], 1
    for i in range(18):
        width, height = (160, 120) if i % 3 else (90, 200)
        n = i % 5
        corners = torch.rand(n, 2, generator=g) * 0.6
        boxes = torch.cat([corners, corners + 0.15 + 0.2 * torch.rand(n, 2, generator=g)], 1)
        boxes *= torch.tensor([width, height, width, height])
        labels = torch.ones(n, dtype=torch.long)
        if not alone:
            labels = torch.randint(1, len(names), (n,), generator=g)
        image = Image.effect_noise((width, height), 60).convert("RGB")
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            ImageDraw.Draw(image).rectangle(box, fill=(40 * label, 200 - 30 * label, 90))
        image.save(folder / f"{i}.png")
        held.append(Picture.of(i, f"{i}.png", width, height, boxes, labels, first_id=first))
        first += n
    left_out = ["<i>one</i> broken box"]
    return kind(held, names, name="shapes & <b>more</b>", root=folder, left_out=left_out)


def detect(truth: BoxSet, skill: float, seed: int = 0) -> list[Detections]:
    g = torch.Generator().manual_seed(seed)
    found = []
    for picture in truth.pictures:
        n = len(picture.labels)
        boxes = picture.boxes + 2 * torch.randn(n, 4, generator=g)
        right = torch.rand(n, generator=g) < skill
        labels = torch.where(right, picture.labels, picture.labels % len(truth.class_names) + 1)
        boxes = torch.cat([boxes, torch.tensor([[-5.0, 2, 30, 40]])])
        labels = torch.cat([labels, torch.tensor([1])])
        scores = torch.cat([0.7 * torch.rand(n, generator=g) + 0.2 + 0.1 * right, torch.rand(1, generator=g)])
        found.append(Detections(picture.id, boxes, labels, scores.clamp(max=1)))
    return found


def make_detection(truth: BoxSet, name: str, skill: float, seed: int = 0, counts=BOXES, **more):
    detections = detect(truth, skill, seed)
    counts = counts[: len(truth.class_names)]
    images = counts.clamp(max=200)
    scores = evaluate_boxes(truth, detections, train_counts=counts, train_image_counts=images)
    return DetectionRun(name, seed, scores, detections, **more)
