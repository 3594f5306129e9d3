"""The cosines of all pairs of embeddings, without a matrix of all pairs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bisector.checks import require_embeddings
from bisector.errors import require, require_integer
from bisector.metrics.sorted_scores import SortedScores
from bisector.statistics.directions import unit_rows

EXACT_PAIRS = 50_000_000
"""Up to so many pairs every cosine is held by itself: 200 MB."""

STEPS = 2**20
"""Beyond, cosines are rounded to multiples of 1 / STEPS, about 1e-6, and counted."""

_BLOCK = 2048  # rows and columns of the matrix of cosines that are there at a time


def pair_scores(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    *,
    most: int = EXACT_PAIRS,
) -> tuple[Tensor, Tensor]:
    """The cosines of all genuine pairs (one class) and of all impostor pairs (two classes).

    Each of the N (N - 1) / 2 pairs counts once. The cosines are computed in float64, block by block, and kept
    in float32; an embedding of length 0 has cosine 0 with all others. The pairs come in no order that means
    anything.

    Args:
        embeddings: (N, D) finite, any floating dtype, on any device.
        labels: (N,) integers, any: the classes need not be those of any training.
        most: the largest number of pairs that may be held, 4 bytes each.

    Returns:
        (G,) genuine and (I,) impostor cosines, float32 on the CPU, in [-1, 1].

    Raises:
        ArgumentError: an argument is not as described, or there are more pairs than `most`; `verify` then
            still serves, since it counts them instead of holding them.

    >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> pair_scores(x, torch.tensor([7, 7, 9]))
    (tensor([1.]), tensor([0., 0.]))
    """
    require_pairs(embeddings, labels)
    require_integer("most", most, least=1)
    genuine_pairs, impostor_pairs = count_pairs(labels)
    pairs = genuine_pairs + impostor_pairs
    require(
        pairs <= most, "embeddings", f"{len(labels)}, {pairs} pairs", f"at most {most} pairs, or verify()"
    )
    genuine, impostor = torch.empty(genuine_pairs, device="cpu"), torch.empty(impostor_pairs, device="cpu")
    genuine_seen = impostor_seen = 0
    for same, other in _pairs(embeddings, labels, torch.float64):
        for cosines in (same, other):  # equal ones, and above all those of 0, differ in their last bits
            cosines.mul_(2**40).round_().div_(2**40)
        genuine[genuine_seen : (genuine_seen := genuine_seen + len(same))] = same.clamp_(-1, 1)
        impostor[impostor_seen : (impostor_seen := impostor_seen + len(other))] = other.clamp_(-1, 1)
    return genuine, impostor


def counted_pair_scores(
    embeddings: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
) -> tuple[SortedScores, SortedScores]:
    """The same for any number of pairs, rounded to multiples of 2^-20 and counted: 32 MB, however many.

    Cosines are computed in float32, whose own error is about a tenth of the rounding.
    """
    counts = torch.zeros(2, 2 * STEPS + 1, dtype=torch.long, device=embeddings.device)
    for pairs in _pairs(embeddings, labels, torch.float32):
        for kind, cosines in enumerate(pairs):
            if len(cosines):
                steps = cosines.mul_(STEPS).round_().clamp_(-STEPS, STEPS).int().add_(STEPS)
                counts[kind] += torch.bincount(steps, minlength=2 * STEPS + 1)
    genuine, impostor = (_sorted(total) for total in counts.cpu())
    return genuine, impostor


def require_pairs(embeddings: Tensor, labels: Tensor) -> None:
    """Raise `ArgumentError` unless these are finite embeddings with an integer label each."""
    require_embeddings("embeddings", embeddings)
    rows = len(embeddings)
    require(bool(embeddings.isfinite().all()), "embeddings", "NaN or infinity", "finite numbers")
    require(isinstance(labels, Tensor), "labels", type(labels).__name__, "a tensor")
    fits = labels.shape == (rows,)
    require(fits, "labels", f"shape {tuple(labels.shape)}", f"({rows},), one an embedding")
    integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    require(integer, "labels", labels.dtype, "an integer dtype")


def count_pairs(labels: Tensor) -> tuple[int, int]:
    """How many pairs are genuine and how many are impostors.

    >>> count_pairs(torch.tensor([5, 5, 5, 8]))
    (3, 3)
    """
    sizes = torch.unique(labels, return_counts=True)[1]
    genuine = int((sizes * (sizes - 1) // 2).sum())
    return genuine, len(labels) * (len(labels) - 1) // 2 - genuine


def _pairs(embeddings: Tensor, labels: Tensor, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield genuine and impostor cosines, block by block, every pair once."""
    # Where the classes lie together, most blocks hold impostors alone and need no mask.
    order = labels.to(embeddings.device).argsort(stable=True)
    labels = labels.to(embeddings.device)[order]
    units = unit_rows(embeddings.double()).to(dtype)[order]
    nothing = units.new_empty(0)
    for first in range(0, len(units), _BLOCK):
        rows, row_labels = units[first : first + _BLOCK], labels[first : first + _BLOCK]
        for second in range(first, len(units), _BLOCK):
            column_labels = labels[second : second + _BLOCK]
            cosines = rows @ units[second : second + _BLOCK].T
            if second > first and row_labels[-1] < column_labels[0]:
                yield nothing, cosines.flatten()
                continue
            same = row_labels[:, None] == column_labels
            once = torch.ones_like(same).triu(1) if second == first else torch.ones_like(same)
            yield cosines[same & once], cosines[~same & once]


def _sorted(counts: Tensor) -> SortedScores:
    taken = counts.nonzero().squeeze(1)
    return SortedScores(((taken - STEPS) / STEPS).float(), counts[taken])
