"""Margins: what is done to the scores in training, the target's and the competitors' apart."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bisector.checks import sizes_are_traced
from bisector.errors import require, require_choice
from bisector.functional.cosine import angle, psi, shift_angle

Direction: TypeAlias = Literal["relax", "press"]
DIRECTIONS: tuple[Direction, ...] = ("relax", "press")

TargetRule: TypeAlias = Callable[..., Tensor]
"""``(cos_y (B,), labels (B,)) -> (B,)``: any differentiable function of the targets' cosines.

With `Margin.by_length` it is given the (B,) lengths of the embeddings too, as a third argument.
"""

CustomMargin: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(cos (B, C'), y (B, 1), j (C',)) -> (B, C')``: a user's own margin on any block of classes j.

It must be a pure function of each entry: it is called on many blocks, on some more than once, and on single scores.
"""


@dataclass(frozen=True, eq=False)
class PairwiseMargin:
    r"""A margin for every pair of true class i and competitor j, held in two vectors, never in a C x C matrix.

    .. math:: m_{ij} = \max(0, r_i - c_j), \qquad z_j = s\,\psi(\theta_j \pm m_{yj})

    Args:
        r: (C,) radians, what a class brings as the true class.
        c: (C,) radians, what it brings as a competitor; usually r = c. A class with r = min and c = max takes
            no part.
        direction: "relax" moves the competitor away, ``theta_j + m``: samples of the true class are accepted
            in training up to m beyond the bisector. "press" moves it nearer, ``theta_j - m``: they must stay
            m inside. What that does to the bisector at inference is the other way round: see docs/method.md.

    Raises:
        ArgumentError: r and c are not vectors of the same length, or the direction is unknown.

    >>> PairwiseMargin(torch.tensor([0.3, 0.1]), torch.tensor([0.3, 0.1]), "relax").matrix()
    tensor([[0.0000, 0.2000],
            [0.0000, 0.0000]])
    """

    r: Tensor
    c: Tensor
    direction: Direction = "relax"

    def __post_init__(self) -> None:
        require_choice("direction", self.direction, DIRECTIONS)
        if sizes_are_traced():
            return
        same = self.r.dim() == 1 and self.r.shape == self.c.shape
        shapes = f"shapes {tuple(self.r.shape)} and {tuple(self.c.shape)}"
        require(same, "r and c", shapes, "two vectors (C,) of the same length")

    def to(self, device: torch.device, dtype: torch.dtype) -> "PairwiseMargin":
        """Return the same margins on another device, in another dtype."""
        return PairwiseMargin(self.r.to(device, dtype), self.c.to(device, dtype), self.direction)

    def towards(
        self,
        labels: Tensor,  # (B,)
    ) -> Tensor:
        """Return the (B, C) signed angles added to each competitor: m for "relax", -m for "press"."""
        margins = (self.r[labels, None] - self.c).clamp_min(0)
        return margins if self.direction == "relax" else -margins

    def with_bystander(self, index: int | None) -> "PairwiseMargin":
        r"""Return the margins of one class more, which takes no part: :math:`r = \min r` and :math:`c = \max c`.

        Args:
            index: where it stands among the classes, such as 0 for a detector's background; None for no such class.

        >>> PairwiseMargin(torch.tensor([0.3, 0.1]), torch.tensor([0.3, 0.1])).with_bystander(0).matrix()
        tensor([[0.0000, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.2000],
                [0.0000, 0.0000, 0.0000]])
        """
        if index is None:
            return self
        r = torch.cat([self.r[:index], self.r.min()[None], self.r[index:]])
        c = torch.cat([self.c[:index], self.c.max()[None], self.c[index:]])
        return PairwiseMargin(r, c, self.direction)

    def largest(self) -> Tensor:
        """Return the largest of all margins, a 0-d tensor, radians."""
        return (self.r.max() - self.c.min()).clamp_min(0)

    def matrix(self) -> Tensor:
        """Return all margins, (C, C) radians, ``[true class, competitor]``: for reports, at small C."""
        return (self.r[:, None] - self.c).clamp_min(0)


@dataclass(frozen=True, eq=False)
class Margin:
    r"""All that a head does to the cosines in training.

    With the target's class y and a competitor j,

    .. math:: z_y = s\,t(\cos_y, y), \qquad z_j = s\,(\psi(\theta_j \pm m_{yj}) + \mathrm{shift})

    Args:
        target: the rule t; None leaves the target's cosine as it is.
        pairwise: the angles of the competitors; None for none.
        competitor_shift: a constant in cosine units added to every competitor.
        custom: the user's own function of ``(cos, y, j)``. It is applied first, to every entry, j = y included;
            the rules above then act on what it returns.
        by_length: whether the rule t is given the lengths of the embeddings too: (B,) numbers in float32 or better,
            NaN for ignored rows, through which no gradient passes.
    """

    target: TargetRule | None = None
    pairwise: PairwiseMargin | None = None
    competitor_shift: float = 0.0
    custom: CustomMargin | None = None
    by_length: bool = False

    def lengths(
        self,
        embeddings: Tensor,  # (B, D)
        kept: Tensor | None,  # (B,) bool
    ) -> tuple[Tensor, ...]:
        """Return what the rule t takes after cosines and labels: nothing, or the (B,) lengths of the embeddings."""
        if not self.by_length:
            return ()
        precise = torch.promote_types(embeddings.dtype, torch.float32)
        found = torch.linalg.vector_norm(embeddings.detach(), dim=1, dtype=precise)
        return (found if kept is None else found.where(kept, torch.nan),)

    def sparing(self, index: int) -> "Margin":
        """Return the same margin, but none in the rows of one class, a detector's background."""
        if self.target is None and not self.competitor_shift:
            return self
        inner, shift = self.target, self.competitor_shift

        def rule(cosine: Tensor, labels: Tensor, *lengths: Tensor) -> Tensor:
            moved = cosine if inner is None else inner(cosine, labels, *lengths)
            # What is added to all entries of a row alike changes no softmax.
            return torch.where(labels == index, cosine + shift, moved)

        return replace(self, target=rule)

    def __call__(
        self,
        cosines: Tensor,  # (B, C)
        labels: Tensor,  # (B,) in 0..C-1
        *lengths: Tensor,  # (B,), see `lengths`
    ) -> Tensor:
        """Return the (B, C) cosines as the margin leaves them; `scale` times them are the logits."""
        needed = bool(lengths) or not self.by_length
        require(needed, "margin", "no lengths for a rule by length", "the (B,) lengths of the embeddings")
        y = labels[:, None]
        if self.custom is not None:
            cosines = apply_custom(
                self.custom, cosines, y, torch.arange(cosines.shape[1], device=cosines.device)
            )
        competitors = cosines
        if self.pairwise is not None:
            competitors = shift_angle(
                cosines, self.pairwise.to(cosines.device, cosines.dtype).towards(labels)
            )
        if self.competitor_shift:
            competitors = competitors + self.competitor_shift
        targets = cosines.gather(1, y)
        if self.target is not None:
            targets = self.target(targets[:, 0], labels, *lengths)[:, None]
        return competitors.scatter(1, y, targets.to(competitors.dtype))


def apply_custom(
    custom: CustomMargin,
    cosines: Tensor,  # (B, C')
    y: Tensor,  # (B, 1)
    classes: Tensor,  # (C',)
) -> Tensor:
    """Return what a user's margin makes of cosines; raise `ArgumentError` where that has another shape."""
    result, given = custom(cosines, y, classes), tuple(cosines.shape)
    require(result.shape == given, "custom_margin", f"a result of shape {tuple(result.shape)}", f"{given}")
    return result


def per_class(
    value: float | Tensor,  # a number, or (C,)
    labels: Tensor,  # (B,)
    like: Tensor,
) -> Tensor | float:
    """Return the value of each label's class, or the number itself where one holds for all."""
    return value.to(like)[labels] if isinstance(value, Tensor) and value.dim() == 1 else value


def additive_cosine(
    margin: float | Tensor,  # cosine units; a number, or (C,) one for each class
    divisor: float | Tensor = 1.0,
) -> TargetRule:
    r"""Return the rule :math:`t = (\cos_y - m_y) / M` (Wang et al. 2018, AM-Softmax, at M = 1)."""

    def rule(cosine: Tensor, labels: Tensor) -> Tensor:
        return (cosine - per_class(margin, labels, cosine)) / divisor

    return rule


def additive_angle(
    margin: float | Tensor,  # radians; a number, or (C,) one for each class
) -> TargetRule:
    r"""Return the rule :math:`t = \psi(\theta_y + m_y)` (Deng et al. 2019, ArcFace), monotone past pi."""

    def rule(cosine: Tensor, labels: Tensor) -> Tensor:
        return shift_angle(cosine, per_class(margin, labels, cosine))

    return rule


def combined(m1: float | Tensor, m2: float | Tensor, m3: float | Tensor) -> TargetRule:
    r"""Return the rule :math:`t = \psi(m_1 \theta_y + m_2) - m_3` (Deng et al. 2019, combined margin).

    m1 multiplies the angle (SphereFace), m2 is in radians, m3 in cosine units.
    """

    def rule(cosine: Tensor, labels: Tensor) -> Tensor:
        return psi(m1 * angle(cosine) + m2) - m3

    return rule
