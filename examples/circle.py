"""Pictures of heads on the circle: two-dimensional embeddings, and which class owns which directions.

``python examples/circle.py`` writes those of docs/circle.md again, into docs/images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

import bisector as bs
from bisector.posthoc import BaseAdjustment, adjust

COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#717581")
NOBODY = -1  # a direction that training accepts for no class
SIDE, RIM = 250, 100  # pixels: of a panel, and the radius of its circle


@dataclass(frozen=True)
class Panel:
    """One circle: embeddings (N, 2) with their classes, the owner of each direction, and the class vectors."""

    title: str
    owners: Sequence[int]
    vectors: Tensor
    points: Tensor
    labels: Tensor


def directions(number: int = 720) -> Tensor:
    """Return points all around the unit circle, (number, 2)."""
    angles = torch.arange(number) * (2 * math.pi / number)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def owned(head: bs.Head, around: Tensor) -> list[int]:
    """Return the class that the head predicts in each direction."""
    return list(head.predict(around).tolist())


def accepted(head: bs.Head, around: Tensor) -> list[int]:
    """Return the class for which each direction is right even with its margin, which is what training asks for."""
    cosines = F.normalize(around) @ F.normalize(head.weight.detach()).T
    rule = head.margin().target
    owners = [NOBODY] * len(around)
    for y in range(head.num_classes):
        own = cosines[:, y] if rule is None else rule(cosines[:, y], torch.full((len(around),), y))
        others = cosines.clone()
        others[:, y] = -math.inf
        for row in (own > others.amax(dim=1)).nonzero().flatten().tolist():
            owners[row] = y
    return owners


def trained(head: bs.Head, steps: int = 400) -> tuple[Tensor, Tensor]:
    """Train a small network with two-dimensional embeddings on digits; return those of digits not seen."""
    pixels, classes = load_digits(n_class=head.num_classes, return_X_y=True)
    x, y = torch.tensor(pixels / 16).float(), torch.tensor(classes)
    torch.manual_seed(0)
    with torch.no_grad():  # five vectors drawn at random on a circle would lie on one another
        head.weight.copy_(directions(head.num_classes))
    network = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2), torch.nn.BatchNorm1d(2)
    )
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=0.01)
    half = len(x) // 2
    for _ in range(steps):
        optimizer.zero_grad()
        head(network(x[:half]), y[:half]).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        return network(x[half:]), y[half:]


def one_wide_class() -> tuple[Tensor, Tensor]:
    """Return unit embeddings of three classes, of which class 1 is three times as wide as the others."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(1800) % 3
    middle = torch.tensor([-0.9, 0.0, 0.9])[labels]
    angles = (
        middle + math.pi / 2 + torch.tensor([0.12, 0.42, 0.12])[labels] * torch.randn(1800, generator=draw)
    )
    return torch.stack([angles.cos(), angles.sin()], dim=1), labels


def geometry_of_wide() -> tuple[bs.NormalizedSoftmax, BaseAdjustment, Tensor, Tensor]:
    """Fit the geometry on a third of `one_wide_class`; return head, adjustment, and the other rows."""
    points, labels = one_wide_class()
    head = bs.NormalizedSoftmax(2, 3, scale=10)
    with torch.no_grad():
        head.weight.copy_(torch.stack([points[labels == c].mean(dim=0) for c in range(3)]))
        scores = head.logits(points)
    fit = slice(0, 600)
    adjustment = adjust(scores[fit], labels[fit], method="geometry", embeddings=points[fit])
    return head, adjustment, points[600:], labels[600:]


def spaces() -> list[Panel]:
    """The same three vectors, as three heads see them."""
    vectors = torch.tensor([[1.0, 0.15], [-0.35, 1.0], [-0.5, -0.8]])
    heads = {
        "no margin": bs.NormalizedSoftmax(2, 3),
        "AM-softmax, 0.3": bs.AMSoftmax(2, 3, margin=0.3),
        "ArcFace, 0.5 rad": bs.ArcFace(2, 3, margin=0.5),
    }
    panels = []
    for title, head in heads.items():
        with torch.no_grad():
            head.weight.copy_(vectors)
        panels.append(Panel(title, accepted(head, directions()), vectors, torch.empty(0, 2), torch.empty(0)))
    return panels


def before_and_after_a_margin() -> list[Panel]:
    """Digits that were trained without a margin, and with one."""
    panels = []
    for title, head in (
        ("no margin", bs.NormalizedSoftmax(2, 5, scale=16)),
        ("ArcFace, 0.5 rad", bs.ArcFace(2, 5, margin=0.5, scale=16)),
    ):
        points, labels = trained(head)
        panels.append(Panel(title, owned(head, directions()), head.weight.detach(), points, labels))
    return panels


def before_and_after_the_geometry() -> list[Panel]:
    """A wide class between two narrow ones, decided by its scores, and with the geometry of the classes."""
    head, adjustment, points, labels = geometry_of_wide()
    around = directions()
    with torch.no_grad():
        adjusted = adjustment.predict(head.logits(around), around)
    vectors = head.weight.detach()
    return [
        Panel("cosines alone", owned(head, around), vectors, points, labels),
        Panel("with the geometry", adjusted.tolist(), vectors, points, labels),
    ]


def drawing(panels: Sequence[Panel]) -> str:
    """Return the panels beside one another as SVG: on the rim the owners, inside the embeddings and the vectors."""
    parts = []
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({SIDE * number + SIDE / 2:g} {SIDE / 2 + 20:g})">')
        parts.append(f'<text y="{-RIM - 26}" text-anchor="middle">{panel.title}</text>')
        parts += [_arc(*arc) for arc in _arcs(panel.owners)]
        parts += _points(panel)
        for c, (x, y) in enumerate(F.normalize(panel.vectors).tolist()):
            tip = f'x2="{0.92 * RIM * x:.1f}" y2="{-0.92 * RIM * y:.1f}"'
            parts.append(f'<line {tip} stroke="{COLOURS[c]}" stroke-width="2.5"/>')
        parts.append("</g>")
    width, height = SIDE * len(panels), SIDE + 20
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="14">'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _points(panel: Panel) -> list[str]:
    """The embeddings by their directions; how far out is drawn at random, so that many can be told from few."""
    shown = torch.randperm(len(panel.points), generator=torch.Generator().manual_seed(0))[:250]
    radius = 0.35 + 0.5 * torch.rand(len(shown), generator=torch.Generator().manual_seed(1))
    places = RIM * radius[:, None] * F.normalize(panel.points[shown])
    return [
        f'<circle cx="{x:.1f}" cy="{-y:.1f}" r="1.6" fill="{COLOURS[int(c)]}"/>'
        for (x, y), c in zip(places.tolist(), panel.labels[shown].tolist(), strict=True)
    ]


def _arcs(owners: Sequence[int]) -> list[tuple[int, float, float]]:
    """Each run of directions with one owner: the class, and from where to where in radians."""
    ends = [0, *(i for i in range(1, len(owners)) if owners[i] != owners[i - 1]), len(owners)]
    step = 2 * math.pi / len(owners)
    return [(owners[a], (a - 0.5) * step, (b - 0.5) * step) for a, b in pairwise(ends)]


def _arc(owner: int, start: float, end: float) -> str:
    colour, width = ("#d8d8d8", 4) if owner == NOBODY else (COLOURS[owner], 14)
    x, y, x2, y2 = (RIM * f(a) for a in (start, end) for f in (math.cos, math.sin))
    large = int(end - start > math.pi)
    path = f"M{x:.1f} {-y:.1f}A{RIM} {RIM} 0 {large} 0 {x2:.1f} {-y2:.1f}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


PICTURES = {
    "circle-spaces.svg": spaces,
    "circle-margin.svg": before_and_after_a_margin,
    "circle-geometry.svg": before_and_after_the_geometry,
}


def write(folder: Path) -> None:
    """Write all pictures into a folder."""
    for name, panels in PICTURES.items():
        (folder / name).write_text(drawing(panels()), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[1] / "docs" / "images")
