"""Every head beside the naive loss that it must equal: the table that the tests of the heads run over."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bisector.heads import (
    C2AM,
    IGAM,
    LDAM,
    AdaFace,
    AMSoftmax,
    ArcFace,
    Circle,
    CombinedMargin,
    CosineHead,
    CountGuided,
    EnhancedAMSoftmax,
    Head,
    LinearSoftmax,
    LogitAdjusted,
    NormalizedSoftmax,
    Seesaw,
)
from naive_losses import NaiveLoss, information_margins, pairwise_formula, psi

SCALE = 8.0


def counts(C: int) -> list[float]:
    return [float(2 ** (C - c)) for c in range(C)]


def log_prior(C: int, tau: float) -> list[float]:
    return [tau * math.log(n / sum(counts(C))) for n in counts(C)]


def own_margins(C: int) -> list[float]:
    return [0.125 * (1 + c % 5) for c in range(C)]


def bits(C: int) -> list[float]:
    return [20.0 + 3.0 * ((5 * c) % C) for c in range(C)]


def igam(D: int, C: int, **options: Any) -> IGAM:
    head = IGAM(D, C, information=None, scale=SCALE, **options)
    head.set_amounts(torch.tensor(bits(C), dtype=torch.float64))
    return head


def norm_margins(weight: Tensor, alpha: float) -> list[list[float]]:
    norms = [
        sum(math.sqrt(sum(v * v for v in vector)) for vector in row.reshape(-1, row.shape[-1]).tolist())
        for row in weight.detach()
    ]
    return [[max(0.0, alpha / math.pi * math.log(a / b)) for b in norms] for a in norms]


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[..., Head]  # (D, C, **options)
    naive: Callable[[int, Tensor], NaiveLoss]  # (C, weight)
    soft_labels: bool = True

    def __str__(self) -> str:
        return self.name


def am(margin: float = 0.25) -> NaiveLoss:
    return NaiveLoss(target=lambda cos, y: cos - margin)


def arc(margin: float) -> NaiveLoss:
    return NaiveLoss(target=lambda cos, y: psi(torch.acos(cos) + margin))


def combined(m1: float, m2: float, m3: float) -> NaiveLoss:
    return NaiveLoss(target=lambda cos, y: psi(m1 * torch.acos(cos) + m2) - m3)


def enhanced(m: float, shift: float, divisor: float, **parts: Any) -> NaiveLoss:
    return NaiveLoss(
        target=lambda cos, y: (cos - m) / divisor, competitor=lambda cos, y, j: cos + shift, **parts
    )


def pairwise(margins: list[list[float]], direction: str, **parts: Any) -> NaiveLoss:
    return NaiveLoss(competitor=pairwise_formula(margins, direction), **parts)


def warming_up(head: type[CosineHead], **fixed: Any) -> Callable[..., Head]:
    """The head at half of its warm-up: its margin is half of what it will be."""

    def build(D: int, C: int, **options: Any) -> Head:
        made: Any = head(D, C, scale=SCALE, warmup=4, **fixed, **options)
        for _ in range(2):
            made.observe(torch.zeros(1, D), torch.zeros(1))
        return made

    return build


LONG = 2.0  # a length that about half of the rows of `batch` have


def adaface(D: int, C: int, **options: Any) -> AdaFace:
    """The head for which a row is short or long: so finite differences see no margin move, as the gradient does."""
    head = AdaFace(D, C, scale=SCALE, margin=0.25, h=1e9, **options)
    head.length_mean.fill_(LONG)
    return head


def by_length(x: Tensor) -> Callable[[Tensor, int], Tensor]:
    if x.detach().norm() > LONG:
        return lambda cos, y: torch.cos((torch.acos(cos) - 0.25).clamp_min(1e-3)) - 0.5
    return lambda cos, y: torch.cos((torch.acos(cos) + 0.25).clamp_max(math.pi - 1e-3))


def cosine(head: type[CosineHead], **fixed: Any) -> Callable[..., Head]:
    return lambda D, C, **options: head(D, C, scale=SCALE, **fixed, **options)


CASES = [
    Case("linear", LinearSoftmax, lambda C, w: NaiveLoss(kind="dot")),
    Case(
        "linear-no-bias-sub-centers",
        lambda D, C, **o: LinearSoftmax(D, C, bias=False, sub_centers=2, **o),
        lambda C, w: NaiveLoss(kind="dot"),
    ),
    Case(
        "logit-adjusted",
        lambda D, C, **o: LogitAdjusted(D, C, class_counts=counts(C), **o),
        lambda C, w: NaiveLoss(kind="dot", offset=log_prior(C, 1.0)),
    ),
    Case("normalized", cosine(NormalizedSoftmax), lambda C, w: NaiveLoss()),
    Case(
        "normalized-learned-scale", cosine(NormalizedSoftmax, learnable_scale=True), lambda C, w: NaiveLoss()
    ),
    Case(
        "normalized-prior",
        lambda D, C, **o: NormalizedSoftmax(D, C, scale=SCALE, class_counts=counts(C), tau=1.5, **o),
        lambda C, w: NaiveLoss(offset=log_prior(C, 1.5)),
    ),
    Case("am", cosine(AMSoftmax, margin=0.25), lambda C, w: am()),
    Case("am-sub-centers", cosine(AMSoftmax, margin=0.25, sub_centers=3), lambda C, w: am()),
    Case(
        "am-per-class-learned-scale",
        lambda D, C, **o: AMSoftmax(
            D, C, margin=torch.tensor(own_margins(C)), scale=SCALE, learnable_scale=True, **o
        ),
        lambda C, w: NaiveLoss(target=lambda cos, y: cos - own_margins(C)[y]),
    ),
    Case("arcface", cosine(ArcFace, margin=0.5), lambda C, w: arc(0.5)),
    Case("adaface", adaface, lambda C, w: NaiveLoss(by_row=by_length)),
    Case("arcface-warming-up", warming_up(ArcFace, margin=0.5), lambda C, w: arc(0.25)),
    Case("am-warming-up", warming_up(AMSoftmax, margin=0.5), lambda C, w: am(0.25)),
    Case(
        "combined-warming-up",
        warming_up(CombinedMargin, m1=1.5, m2=0.25, m3=0.125),
        lambda C, w: combined(1.25, 0.125, 0.0625),
    ),
    Case(
        "enhanced-warming-up",
        warming_up(EnhancedAMSoftmax, margin=0.5),
        lambda C, w: enhanced(0.25, 0.25, math.exp(0.25)),
    ),
    Case("arcface-large-margin", cosine(ArcFace, margin=2.5, learnable_scale=True), lambda C, w: arc(2.5)),
    Case("arcface-sub-centers", cosine(ArcFace, margin=0.5, sub_centers=2), lambda C, w: arc(0.5)),
    Case(
        "arcface-per-class-prior",
        lambda D, C, **o: ArcFace(
            D, C, margin=torch.tensor(own_margins(C)), scale=SCALE, class_counts=counts(C), tau=1.0, **o
        ),
        lambda C, w: NaiveLoss(
            target=lambda cos, y: psi(torch.acos(cos) + own_margins(C)[y]), offset=log_prior(C, 1.0)
        ),
    ),
    Case(
        "combined", cosine(CombinedMargin, m1=1.35, m2=0.1, m3=0.05), lambda C, w: combined(1.35, 0.1, 0.05)
    ),
    Case("combined-steep", cosine(CombinedMargin, m1=3.7, m2=-0.2), lambda C, w: combined(3.7, -0.2, 0.0)),
    Case("enhanced-log", cosine(EnhancedAMSoftmax), lambda C, w: enhanced(0.3, 0.3, math.exp(0.3))),
    Case(
        "enhanced-printed",
        cosine(EnhancedAMSoftmax, form="printed"),
        lambda C, w: enhanced(0.3, 0.3, math.exp(0.3), row="probability"),
        soft_labels=False,
    ),
    Case(
        "enhanced-code",
        cosine(EnhancedAMSoftmax, form="code"),
        lambda C, w: enhanced(0.3, 0.0, math.exp(0.3)),
    ),
    Case(
        "enhanced-notebook",
        cosine(EnhancedAMSoftmax, form="notebook", margin=0.2),
        lambda C, w: enhanced(0.2, 0.0, math.exp(0.2), added_target=0.2),
    ),
    Case(
        "enhanced-parts",
        cosine(
            EnhancedAMSoftmax,
            margin=0.2,
            divisor=1.5,
            competitor_margin=0.05,
            row_loss="probability",
            form="code",
        ),
        lambda C, w: enhanced(0.2, 0.05, 1.5, row="probability"),
        soft_labels=False,
    ),
    Case("c2am", cosine(C2AM), lambda C, w: pairwise(norm_margins(w, 0.5), "relax")),
    Case(
        "c2am-press-sub-centers",
        cosine(C2AM, alpha=2.0, direction="press", sub_centers=2),
        lambda C, w: pairwise(norm_margins(w, 2.0), "press"),
    ),
    Case(
        "igam-paper",
        lambda D, C, **o: igam(D, C, preset="paper", **o),
        lambda C, w: pairwise(information_margins(bits(C), "sum"), "relax"),
    ),
    Case(
        "igam-relax-prior",
        lambda D, C, **o: igam(D, C, max_margin=0.3, direction="relax", class_counts=counts(C), tau=1.0, **o),
        lambda C, w: pairwise(
            information_margins(bits(C), "ratio", max_margin=0.3), "relax", offset=log_prior(C, 1.0)
        ),
    ),
    Case(
        "igam-press",
        lambda D, C, **o: igam(D, C, max_margin=0.7, direction="press", **o),
        lambda C, w: pairwise(information_margins(bits(C), "ratio", max_margin=0.7), "press"),
    ),
    Case(
        "igam-gain",
        lambda D, C, **o: igam(
            D, C, normalize="mean", gain=5.0, direction="relax", learnable_scale=True, sub_centers=2, **o
        ),
        lambda C, w: pairwise(information_margins(bits(C), "mean", gain=5.0), "relax"),
    ),
    Case(
        "igam-recommended",
        igam,
        lambda C, w: pairwise(information_margins(bits(C), "ratio", gain=3.0), "press"),
    ),
    Case(
        "count-guided",
        lambda D, C, **o: CountGuided(D, C, scale=SCALE, gain=0.8, class_counts=counts(C), **o),
        lambda C, w: pairwise(
            [[max(0.0, 0.8 / math.pi * math.log(n / m)) for n in counts(C)] for m in counts(C)], "press"
        ),
    ),
    Case(
        "ldam",
        lambda D, C, **o: LDAM(D, C, scale=SCALE, class_counts=counts(C), **o),
        lambda C, w: NaiveLoss(target=lambda cos, y: cos - 0.5 * (counts(C)[y] / min(counts(C))) ** -0.25),
    ),
]
SHOWN: list[tuple[Head, str]] = [
    (LinearSoftmax(5, 6), "LinearSoftmax(in_features=5, num_classes=6)"),
    (
        LogitAdjusted(5, 6, class_counts=counts(6), tau=0.5),
        "LogitAdjusted(in_features=5, num_classes=6, tau=0.5)",
    ),
    (
        NormalizedSoftmax(5, 6, label_smoothing=0.1, sub_centers=2, learnable_scale=True),
        "NormalizedSoftmax(in_features=5, num_classes=6, sub_centers=2, label_smoothing=0.1, scale=30 (learned))",
    ),
    (AMSoftmax(5, 6), "AMSoftmax(in_features=5, num_classes=6, scale=30, margin=0.35)"),
    (
        ArcFace(5, 6, margin=torch.linspace(0.25, 0.5, 6), scale="auto"),
        "ArcFace(in_features=5, num_classes=6, scale=4, margin=(6 margins, 0.25 to 0.5))",
    ),
    (
        ArcFace(5, 6, warmup=500),
        "ArcFace(in_features=5, num_classes=6, scale=64, warmup=500, margin=0.5)",
    ),
    (
        AdaFace(5, 6, h=0.5),
        "AdaFace(in_features=5, num_classes=6, scale=64, margin=0.4, h=0.5, momentum=0.01)",
    ),
    (
        EnhancedAMSoftmax(5, 6),
        "EnhancedAMSoftmax(in_features=5, num_classes=6, scale=40, margin=0.3, form='log', divisor=1.35,"
        " competitor_margin=0.3)",
    ),
    (
        CombinedMargin(5, 6, m1=1.35, m2=0.1),
        "CombinedMargin(in_features=5, num_classes=6, scale=64, m1=1.35, m2=0.1, m3=0)",
    ),
    (Circle(5, 6), "Circle(in_features=5, num_classes=6, scale=256, margin=0.25)"),
    (C2AM(5, 6), "C2AM(in_features=5, num_classes=6, scale=30, alpha=0.5, direction='relax')"),
    (
        IGAM(5, 6, preset="paper"),
        "IGAM(in_features=5, num_classes=6, scale=30, preset='paper', normalize='sum', gain=1, direction='relax')",
    ),
    (
        CountGuided(5, 6, class_counts=counts(6), gain=2.0),
        "CountGuided(in_features=5, num_classes=6, scale=30, gain=2, direction='press')",
    ),
    (LDAM(5, 6, class_counts=counts(6)), "LDAM(in_features=5, num_classes=6, scale=30, max_margin=0.5)"),
    (Seesaw(5, 6), "Seesaw(in_features=5, num_classes=6, scale=20, p=0.8, q=2)"),
]

COSINE_CASES = [case for case in CASES if "linear" not in case.name and case.name != "logit-adjusted"]


def made(case: Case, D: int, C: int, *, seed: int = 0, **options: Any) -> Head:
    """The case's head with parameters that float32 holds exactly, whatever its dtype."""
    head = case.build(D, C, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn if parameter.numel() > 1 else drawn / 4 + 2)
    return head


def batch(B: int, D: int, C: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(B, D, generator=generator), torch.randint(C, (B,), generator=generator)


def learns(head: Head) -> bool:
    """Whether the head learns to tell classes, of which the last lies on the other side of the rest."""
    x, y = batch(60, head.in_features, head.num_classes)
    away = (y == head.num_classes - 1)[:, None] * 2.0
    x = x / 4 + torch.eye(head.num_classes, head.in_features)[y] * 2 - away
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    observe = getattr(head, "observe", None)
    for _ in range(100):
        optimizer.zero_grad()
        head(x, y).backward()
        optimizer.step()
        if observe is not None:
            observe(x, y)
    return float((head.predict(x) == y).float().mean()) > 0.95


def with_classes_permuted(head: Head, order: Tensor) -> Head:
    """A copy of the head whose class i is the old class order[i]."""
    twin = copy.deepcopy(head)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            if tensor.dim() and len(tensor) == head.num_classes:
                tensor.copy_(tensor[order])
    return twin


def naive_rows(case: Case, head: Head, embeddings: Tensor, labels: Tensor) -> Tensor:
    """The naive losses of the rows from the head's own parameters, so that they get the gradients."""
    scale: Tensor | float = 1.0
    if isinstance(head, CosineHead):
        scale = SCALE if head.log_scale is None else head.log_scale.exp()[0]
    naive = case.naive(head.num_classes, head.weight)
    return naive.rows(embeddings, head.weight, labels, scale, head.bias)
