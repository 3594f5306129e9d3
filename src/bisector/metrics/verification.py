"""Verification: are two embeddings of the same class, whatever the class, one never trained on included?

A pair is accepted when the cosine of its embeddings is at least a threshold. Of the genuine pairs (one class)
a share is accepted, the true accept rate; of the impostor pairs (two classes) too, the false accept rate.

The rates hold for the classes and the threshold they were measured with. A threshold that is chosen on the
classes it is then judged by is judged too well: choose it on other classes (`verify` of a validation split) and
give it to `verify` of the test split as `thresholds`.
"""

import math
import operator
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from bisector.errors import require_number
from bisector.metrics.pairs import EXACT_PAIRS, STEPS, SortedScores, pair_scores
from bisector.records import fields_from_json, fields_to_json

FARS = (1e-2, 1e-3, 1e-4)
"""The false accept rates at which the field reports."""

Scores: TypeAlias = Tensor | SortedScores

_CURVE_POINTS = 300


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold does."""

    threshold: float
    far: float
    tar: float


class EqualError(NamedTuple):
    """Where as many impostors are accepted as genuine pairs are refused, as shares."""

    rate: float
    threshold: float


def equal_error(genuine: Scores, impostor: Scores) -> EqualError:
    """The equal error rate and the threshold next to it.

    The rate at which the false accept rate equals the false reject rate, one less the true accept rate, on
    the ROC with its points joined by straight lines: between two of them, ties or a small number of
    pairs leave no threshold at which the two are equal. The threshold is the score, or the least number above all
    scores, at which they differ least (of two that differ as much, the larger). NaN without pairs of a kind.

    Raises:
        ArgumentError: a score is NaN.

    >>> equal_error(torch.tensor([0.9, 0.8, 0.3]), torch.tensor([0.5, 0.2, 0.1])).rate
    0.333...
    """
    same, other = _sorted_pair(genuine, impostor)
    if not same.total or not other.total:
        return EqualError(math.nan, math.nan)

    def rates(threshold: float) -> tuple[float, float]:
        return other.not_below(threshold) / other.total, 1 - same.not_below(threshold) / same.total

    # The loosest operating point errs on accepting, the strictest on refusing: the sign changes once.
    last = []
    for values in (same.values, other.values):
        fewer = bisect_left(range(len(values)), True, key=lambda i: operator.lt(*rates(float(values[i]))))
        last.append(float(values[fewer - 1]) if fewer else -math.inf)
    low = max(last)
    high = min(scores.next_above(low) for scores in (same, other))
    if high == math.inf:
        high = same.just_above(low)
    (far_low, frr_low), (far_high, frr_high) = rates(low), rates(high)
    excess_low, excess_high = far_low - frr_low, frr_high - far_high
    weight = excess_high / (excess_low + excess_high)
    rate = far_high + weight * (far_low - far_high)
    return EqualError(rate, low if excess_low < excess_high else high)


def at_far(genuine: Scores, impostor: Scores, far: float) -> OperatingPoint:
    """The smallest threshold at which at most `far` of the impostors get in, and both rates as they come out at it.

    The threshold is a score that occurs; where none lies above the impostors that have to be refused, it is the
    next number above them. Pairs with the same score are accepted or refused together, and nothing is
    interpolated: the rates can be had. NaN with fewer than 1 / far impostor pairs; the true accept rate also
    without genuine ones.

    Args:
        genuine: scores of pairs of one class.
        impostor: scores of pairs of two classes.
        far: the false accept rate, in (0, 1].

    Raises:
        ArgumentError: a score is NaN, or `far` is out of its range.

    >>> at_far(torch.tensor([0.75, 0.5]), torch.tensor([0.625, 0.25, 0.125]), far=0.34).threshold
    0.5
    """
    require_number("far", far, above=0, most=1)
    same, other = _sorted_pair(genuine, impostor)
    accepted = _most_accepted(far, other.total)
    if accepted < 1:
        return OperatingPoint(math.nan, math.nan, math.nan)
    if accepted < other.total:
        refused = float(other.largest(torch.tensor(accepted + 1, device="cpu")))
        threshold = min(scores.next_above(refused) for scores in (same, other))
        if threshold == math.inf:
            threshold = other.just_above(refused)
    else:
        threshold = min(float(scores.values[0]) for scores in (same, other) if scores.total)
    return at_threshold(same, other, threshold)


def at_threshold(genuine: Scores, impostor: Scores, threshold: float) -> OperatingPoint:
    """The rates of a given threshold, one chosen on other classes for instance; NaN without pairs of a kind.

    >>> at_threshold(torch.tensor([0.9, 0.4]), torch.tensor([0.5, 0.2]), 0.5)
    OperatingPoint(threshold=0.5, far=0.5, tar=0.5)
    """
    same, other = _sorted_pair(genuine, impostor)
    far, tar = (s.not_below(threshold) / s.total if s.total else math.nan for s in (other, same))
    return OperatingPoint(threshold, far, tar)


@dataclass(frozen=True)
class Verification:
    """What `verify` finds: plain numbers, shares from 0 to 1."""

    embeddings: int
    classes: int
    genuine_pairs: int
    impostor_pairs: int
    eer: float
    eer_threshold: float
    tar: dict[float, float]  # by false accept rate; NaN where there are too few impostor pairs
    thresholds: dict[float, float]  # by false accept rate: those that have the true accept rates above
    carried: dict[float, OperatingPoint] = field(
        default_factory=dict
    )  # at thresholds chosen on other classes
    curve_far: list[float] = field(default_factory=list)  # the ROC for drawing, ascending
    curve_tar: list[float] = field(default_factory=list)
    resolution: float = 0.0  # to what the cosines were rounded; 0 for not at all

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; None stands for a number that is not finite."""
        found = fields_to_json(self)
        tar, thresholds, carried = (found.pop(name) for name in ("tar", "thresholds", "carried"))
        found["at_far"] = [{"far": far, "tar": tar[far], "threshold": thresholds[far]} for far in tar]
        found["carried"] = [{"chosen_for_far": far, **point} for far, point in carried.items()]
        return found

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Verification":
        """Return what `to_dict` was made from."""
        given = {
            **raw,
            "tar": {row["far"]: row["tar"] for row in raw["at_far"]},
            "thresholds": {row["far"]: row["threshold"] for row in raw["at_far"]},
            "carried": {row["chosen_for_far"]: row for row in raw["carried"]},
        }
        found: Verification = fields_from_json(cls, given)
        return found


def verify(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    *,
    fars: Sequence[float] = FARS,
    thresholds: Mapping[float, float] | None = None,
    exact_pairs: int = EXACT_PAIRS,
) -> Verification:
    """Verify every pair of embeddings by cosine.

    All N (N - 1) / 2 pairs take part: none is drawn by chance, so that the same embeddings always give the same
    numbers. Up to `exact_pairs` of them every cosine is held, as in `pair_scores`. Beyond, the cosines
    are rounded to multiples of 2^-20, about 1e-6, and counted: a rate can then differ only by pairs that
    are so near to its threshold. Memory stays bounded: 4 bytes a pair up to the limit, beyond it below 200 MB,
    beside copies of the embeddings; time grows with N^2 (100,000 embeddings are 5e9 pairs: minutes on a CPU). Of
    more embeddings than you want to wait for, give a part.

    Pairs that share an embedding are not independent, so the rates scatter more than so many pairs suggest,
    the lowest false accept rates most: look at the spread over classes, splits or seeds.

    Args:
        embeddings: (N, D) finite, any floating dtype, on any device.
        labels: (N,) integers, any. A class with one embedding has impostor pairs alone.
        fars: the false accept rates to report at, each in (0, 1].
        thresholds: of another `Verification`, one on other classes: what they do on these is told as `carried`.
            Those that are NaN are left out.
        exact_pairs: up to how many pairs every cosine is held.

    Raises:
        ArgumentError: an argument is not as described.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> found = verify(x, torch.tensor([3, 3, 8, 8]), fars=[0.25])
    >>> found.eer, found.tar, found.genuine_pairs, found.impostor_pairs
    (0.0, {0.25: 1.0}, 2, 4)
    """
    wanted = [require_number("fars", far, above=0, most=1) for far in fars]
    same, other = pair_scores(embeddings, labels, exact_pairs=exact_pairs)
    found = {far: at_far(same, other, far) for far in wanted}
    chosen = {far: value for far, value in (thresholds or {}).items() if not math.isnan(value)}
    error = equal_error(same, other)
    curve = list(_curve(same, other))
    return Verification(
        embeddings=len(labels),
        classes=len(torch.unique(labels)),
        genuine_pairs=same.total,
        impostor_pairs=other.total,
        eer=error.rate,
        eer_threshold=error.threshold,
        tar={far: point.tar for far, point in found.items()},
        thresholds={far: point.threshold for far, point in found.items()},
        carried={far: at_threshold(same, other, value) for far, value in chosen.items()},
        curve_far=[far for far, _ in curve],
        curve_tar=[tar for _, tar in curve],
        resolution=0.0 if same.counts is None else 1 / STEPS,
    )


def verify_apart(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    *,
    fars: Sequence[float] = FARS,
    seed: int = 0,
) -> Verification:
    """`verify`, and what thresholds that were chosen on one half of the classes do on the other half.

    That is how a threshold fares in use: it is chosen on some classes and meets others. One that was chosen on the
    classes that a network was trained on would be far too low, since the network tells those apart better.

    Args:
        embeddings: (N, D) finite.
        labels: (N,) integers, of at least four classes; with fewer nothing is carried.
        fars: the false accept rates to report at.
        seed: decides which classes choose.

    Raises:
        ArgumentError: an argument is not as described.

    >>> draw = torch.Generator().manual_seed(0)
    >>> labels = torch.arange(8).repeat_interleave(20)
    >>> x = torch.randn(8, 16, generator=draw)[labels] + 0.1 * torch.randn(160, 16, generator=draw)
    >>> verify_apart(x, labels, fars=[0.1]).carried[0.1].tar
    1.0
    """
    found = verify(embeddings, labels, fars=fars)
    classes = torch.unique(labels)
    if len(classes) < 4:
        return found
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed), device="cpu")
    choosing = torch.isin(labels, classes[order[: len(classes) // 2].to(classes.device)])
    chosen = verify(embeddings[choosing], labels[choosing], fars=fars).thresholds
    other = verify(embeddings[~choosing], labels[~choosing], fars=fars, thresholds=chosen)
    return replace(found, carried=other.carried)


def _curve(genuine: SortedScores, impostor: SortedScores) -> Iterator[tuple[float, float]]:
    """Points of the ROC for drawing, their false accept rates evenly spaced in the logarithm."""
    if not genuine.total or not impostor.total:
        return
    places = torch.linspace(0, math.log(impostor.total), _CURVE_POINTS, dtype=torch.float64, device="cpu")
    accepted = torch.unique(places.exp().round().long().clamp(1, impostor.total))[:-1]  # all of them: below
    refused = impostor.largest(accepted + 1)
    far = impostor.above(refused).double() / impostor.total
    tar = genuine.above(refused).double() / genuine.total
    last = (-1.0, -1.0)
    for point in [*zip(far.tolist(), tar.tolist(), strict=True), (1.0, 1.0)]:
        if point[0] > 0 and point != last:
            yield point
        last = point


def _sorted_pair(genuine: Scores, impostor: Scores) -> tuple[SortedScores, SortedScores]:
    """Both in order and in one dtype."""
    same, other = (
        scores if isinstance(scores, SortedScores) else SortedScores.of(name, scores)
        for name, scores in (("genuine", genuine), ("impostor", impostor))
    )
    if same.values.dtype == other.values.dtype:
        return same, other
    precise = torch.promote_types(same.values.dtype, other.values.dtype)
    return same.to(precise), other.to(precise)


def _most_accepted(far: float, pairs: int) -> int:
    """The largest k with k / pairs <= far, as floats have it: 0.29 of 100 pairs are 29, though 0.29 * 100 < 29."""
    if not pairs:
        return 0
    near = math.floor(far * pairs)
    return max(k for k in (near - 1, near, near + 1, 0) if 0 <= k <= pairs and k / pairs <= far)
