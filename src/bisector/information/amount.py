"""The information amount: the volume that a class's embeddings fill, in bits."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from bisector.checks import require_classes, require_embeddings
from bisector.errors import require, require_choice
from bisector.information.gram import Gram, exact_amounts
from bisector.information.rows import EMBEDDING_SCALES, on_scale, places_by_class, require_finite
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES


def information_amount(
    x: Tensor,  # (m, p)
    *,
    shrinkage: str = "quadratic-inverse",
    embeddings: str = "raw",
    equal_count: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The information amount of one class, in bits: `1/2 log2 det(I + Sigma)`.

    Sigma is the covariance of the class's embeddings (with 1/m), its eigenvalues improved by `shrinkage`:

    - `"quadratic-inverse"` (the default): whenever classes are small or differ much in size; finite and
      steady whatever m is, m - 1 = p included.
    - `"ledoit-peche"`: where every class has 13 instances or more; the same family, in its original form.
    - `"ledoit-wolf"`, `"oas"`: cheaper (no eigenvalues are taken) and well known, with more bias towards
      a sphere, hence upwards, while m is below some multiples of p.
    - `"none"`: with m many times p, where all agree, or where every class has the same m.
    - `"floor"`, `"ledoit-peche+floor"`: to reproduce the IGAM paper, not to measure; see
      `bisector.statistics.shrinkage.shrink` for what is wrong with them.

    **The number of instances leaks into every one of them**: without shrinkage a small class seems small,
    with it a small class seems large (most of all with the linear ones), so a correlation between amount
    and accuracy may be one between count and accuracy. `equal_count=k` measures on k random instances,
    which takes the count out of a comparison of classes; otherwise show the partial correlation that
    controls for log count beside it.

    A cosine head leaves the length of embeddings arbitrary, and the amount grows with length: measure what
    such a head was trained on with `embeddings="unit"`, and say which was measured.

    Args:
        x: (m, p), the embeddings of one class, any floating dtype, on any device.
        shrinkage: One of `bisector.statistics.shrinkage.SHRINKAGES`.
        embeddings: `"raw"`, as they are, or `"unit"`, every row at length `sqrt(p)`.
        equal_count: Measure on this many instances, at least 2, drawn without replacement.
        generator: Draws them; a CPU generator.

    Returns:
        A 0-d float64 tensor on the CPU; NaN with fewer than 2 instances, or fewer than `equal_count`.

    Raises:
        ArgumentError: if an argument is not as described, or an embedding is not finite.

    Source: Ma, Dai and Chen, ICLR 2025. The volume is that of Ma, Derksen, Hong and Wright 2007, IEEE
    Transactions on Pattern Analysis and Machine Intelligence 29(9).

    >>> information_amount(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [-1.0, -2.0]]), shrinkage="none")
    tensor(1.1610, dtype=torch.float64)
    """
    labels = torch.zeros(x.shape[:1], dtype=torch.long, device="cpu")
    return information_amounts(
        x,
        labels,
        1,
        shrinkage=shrinkage,
        embeddings=embeddings,
        equal_count=equal_count,
        generator=generator,
    ).squeeze(0)


def information_amounts(
    x: Tensor,  # (N, p)
    labels: Tensor,  # (N,)
    num_classes: int,
    *,
    shrinkage: str = "quadratic-inverse",
    embeddings: str = "raw",
    equal_count: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The information amount of every class, in bits: (C,) float64, NaN where it has too few instances.

    The options, and what they are good for, are those of `information_amount`.

    Args:
        x: (N, p), the embeddings of all classes.
        labels: (N,), integers from 0 to num_classes - 1.
        num_classes: C, at least 1.
        shrinkage: One of `bisector.statistics.shrinkage.SHRINKAGES`.
        embeddings: `"raw"` or `"unit"`.
        equal_count: Measure every class on this many instances, at least 2.
        generator: Draws them, class after class; a CPU generator.

    Raises:
        ArgumentError: if an argument is not as described, or an embedding is not finite.

    >>> x = torch.tensor([[0.0, 0.0], [5.0, 0.0], [3.0, 0.0], [-3.0, 0.0]])
    >>> information_amounts(x, torch.tensor([1, 2, 0, 0]), num_classes=3, shrinkage="none")
    tensor([1.6610,    nan,    nan], dtype=torch.float64)
    """
    require(num_classes >= 1, "num_classes", num_classes, "at least 1")
    require_embeddings("x", x)
    require_finite("x", x)
    require_classes("labels", labels, num_classes, rows=len(x))
    require_choice("shrinkage", shrinkage, SHRINKAGES)
    require_choice("embeddings", embeddings, EMBEDDING_SCALES)
    require(equal_count is None or equal_count >= 2, "equal_count", equal_count, "None or at least 2")
    rows = on_scale(x, embeddings)

    def grams() -> Iterator[tuple[int, Gram]]:
        for label, places in places_by_class(labels.cpu()):
            if len(places) >= (equal_count or 2):
                drawn = places if equal_count is None else _draw(places, equal_count, generator)
                yield label, Gram.of_rows(rows.index_select(0, drawn))

    amounts = torch.full((num_classes,), torch.nan, dtype=torch.float64, device="cpu")
    for label, amount in exact_amounts(grams(), shrinkage, ranks=False):
        amounts[label] = amount.bits
    return amounts


def amount_of_moments(moments: Moments, shrinkage: str) -> tuple[float, str]:
    """The information amount that a class's moments hold, in bits, and the shrinkage that was used.

    Args:
        moments: Of at least 2 instances, in an exact form.
        shrinkage: One of `bisector.statistics.shrinkage.SHRINKAGES`.

    Raises:
        ArgumentError: if `shrinkage` is not legal, or there are fewer than 2 instances.

    >>> amount_of_moments(Moments.of_rows(torch.tensor([[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0]])), "oas")
    (3.99..., 'oas')
    """
    require_choice("shrinkage", shrinkage, SHRINKAGES)
    require(moments.count >= 2, "moments", f"{moments.count} instances", "at least 2")
    [(_, amount)] = exact_amounts([(0, Gram.of_moments(moments))], shrinkage, ranks=False)
    return amount.bits, amount.shrinkage


def _draw(places: Tensor, count: int, generator: Generator | None) -> Tensor:
    return places[torch.randperm(len(places), generator=generator, device="cpu")[:count]]
