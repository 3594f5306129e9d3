"""The pairs of classes that are taken for each other, or lie nearest to each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.statistics.bootstrap import Estimate
from bisector.statistics.directions import unit_rows
from bisector.statistics.proportion import mean_of_shares, wilson

FEW_CLASSES = 60
"""Classes up to which every pair is measured, and a matrix of them can be read; of more, only the nearest pairs."""

_MOST_MISTAKES = 20_000
"""Pairs of class and prediction that a record holds."""

_BLOCK_CELLS = 20_000_000  # 160 MB of cosines at once


@dataclass(frozen=True)
class Pair:
    """Two classes, the first the one with the smaller label.

    Args:
        first: name of a class.
        second: name of the other.
        first_as_second: rows of the first that were predicted to be the second.
        second_as_first: and the other way round.
        first_tested: rows of the first that were tested.
        second_tested: rows of the second that were tested.
        share: mean over both of the share of rows taken for the other, 0 to 1. Where one of them has no tested row,
            its share is not known and counts as 0: the mean is at least this. NaN without predictions.
        degrees: angle between the mean directions of the classes; NaN if it was not measured.
    """

    first: str
    second: str
    first_as_second: int = 0
    second_as_first: int = 0
    first_tested: int = 0
    second_tested: int = 0
    share: float = math.nan
    degrees: float = math.nan

    @property
    def both_tested(self) -> bool:
        """Whether the share is the mean, not what it is at least."""
        return self.first_tested > 0 and self.second_tested > 0

    @property
    def share_interval(self) -> Estimate:
        """The share with its 95% interval over the tested rows; none where a class has no tested row."""
        if not self.both_tested:
            return Estimate(self.share)
        first = wilson(self.first_as_second, self.first_tested)
        return mean_of_shares(first, wilson(self.second_as_first, self.second_tested))


def pairs_of_counts(
    tested: Sequence[int], confused: Mapping[int, int], class_names: Sequence[str], most: int = 20
) -> list[Pair]:
    """The pairs with the largest share of rows taken for each other; those of a single row come last.

    The share is a mean over the two classes, not over their rows: a rare class counts as much as a common one. Of a
    class without a tested row it is not known what it is taken for: half the share of the other is what the mean is
    at least, and by that the pair is ranked.

    Args:
        tested: rows of each of the C classes.
        confused: rows of class i that were predicted to be j, under i * C + j.
        class_names: of the C classes.
        most: pairs.

    >>> pairs = pairs_of_counts([4, 2, 1, 0], {1: 2, 4: 1, 11: 1}, ("a", "b", "c", "d"))
    >>> [(p.first, p.second, p.first_as_second, p.second_as_first, p.share, p.both_tested) for p in pairs]
    [('a', 'b', 2, 1, 0.5, True), ('c', 'd', 1, 0, 0.5, False)]
    """
    classes = len(class_names)
    pairs = []
    for low, high in sorted({tuple(sorted(divmod(code, classes))) for code in confused}):
        there, back = confused.get(low * classes + high, 0), confused.get(high * classes + low, 0)
        known = [n / tested[c] for n, c in ((there, low), (back, high)) if tested[c]]
        names = class_names[low], class_names[high]
        pairs.append(Pair(*names, there, back, tested[low], tested[high], share=sum(known) / 2))
    ranked = sorted(pairs, key=lambda p: (p.first_as_second + p.second_as_first < 2, -p.share))
    return ranked[:most]


def mistakes_of_counts(
    confused: Mapping[int, int], class_names: Sequence[str], most: int = _MOST_MISTAKES
) -> dict[str, dict[str, int]]:
    """The rows of each class that were taken for another, by name, the most first; of many the largest.

    Args:
        confused: rows of class i that were predicted to be j, under i * C + j.
        class_names: of the C classes.
        most: pairs.

    >>> mistakes_of_counts({1: 2, 2: 1, 6: 5}, ("a", "b", "c"))
    {'c': {'a': 5}, 'a': {'b': 2, 'c': 1}}
    """
    found: dict[str, dict[str, int]] = {}
    for code, rows in sorted(confused.items(), key=lambda item: (-item[1], item[0]))[:most]:
        one, other = divmod(code, len(class_names))
        found.setdefault(class_names[one], {})[class_names[other]] = rows
    return found


def angles_between(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    num_classes: int,
) -> list[list[float]]:  # C x C
    """The angles between the mean directions of all classes, in degrees; NaN of a class without one.

    >>> angles_between(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]), 3)
    [[0.0, 90.0, nan], [90.0, 0.0, nan], [nan, nan, nan]]
    """
    known, directions = _directions(embeddings, labels, num_classes)
    found = torch.full((num_classes, num_classes), math.nan, dtype=torch.float64)
    degrees = (directions @ directions.T).clip(-1, 1).acos().rad2deg()
    found[known[:, None], known] = degrees.fill_diagonal_(0)
    return [[round(angle, 2) for angle in row] for row in found.tolist()]


def _directions(
    embeddings: Tensor, labels: Tensor, num_classes: int
) -> tuple[Tensor, Tensor]:  # (K,), (K, D)
    """The classes that have a mean direction, and these."""
    sums = torch.zeros(num_classes, embeddings.shape[1]).index_add_(0, labels, unit_rows(embeddings))
    known = (torch.linalg.vector_norm(sums, dim=1) > 1e-6).nonzero().flatten()
    return known, unit_rows(sums[known].double())


def nearest_pairs(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    class_names: tuple[str, ...],
    most: int = 20,
) -> list[Pair]:
    """The pairs of classes whose mean directions are nearest, by their angle; C x C angles, a block at a time.

    The mean direction of a class is that of the mean of its unit embeddings.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> pair = nearest_pairs(x, torch.arange(4), ("a", "b", "c", "d"), most=1)[0]
    >>> pair.first, pair.second, round(pair.degrees, 3)
    ('a', 'b', 45.0)
    """
    known, directions = _directions(embeddings, labels, len(class_names))
    best: list[tuple[float, int, int]] = []
    rows_at_once = max(1, _BLOCK_CELLS // max(1, len(known)))
    for start in range(0, len(known), rows_at_once):
        cosines = directions[start : start + rows_at_once] @ directions.T
        rows = torch.arange(start, start + len(cosines))
        cosines[torch.arange(len(directions)) <= rows[:, None]] = -2  # every pair once
        top = cosines.flatten().topk(min(most, cosines.numel()))
        for cosine, place in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            if cosine >= -1.5:
                row, column = divmod(place, len(directions))
                best.append((cosine, int(known[start + row]), int(known[column])))
    best.sort(key=lambda item: -item[0])
    return [
        Pair(class_names[i], class_names[j], degrees=math.degrees(math.acos(min(1.0, max(-1.0, cosine)))))
        for cosine, i, j in best[:most]
    ]
