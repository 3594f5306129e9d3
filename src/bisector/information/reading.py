"""What a meter says of every class."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Self

import torch
from torch import Tensor

from bisector.errors import require_choice
from bisector.information.amount import amount_of_spectrum, weight_and_ridge
from bisector.information.effective_rank import effective_rank
from bisector.information.holding import Form
from bisector.information.sketched import sketched_amount, spectra
from bisector.information.volume import volumes_by_cholesky
from bisector.statistics.moments import Moments, padded
from bisector.statistics.shrinkage import CHOLESKY_SHRINKAGES, SHRINKAGES
from bisector.statistics.sketch import Sketch

_BATCH_BYTES = 2**26
_STEP = 16  # sizes of Gram matrices are rounded up to multiples of it, so that many go together


@dataclass(frozen=True)
class Reading:
    """What is known of one class; as it stands, of a class without instances."""

    amount: float = torch.nan
    count: float = 0.0
    shrinkage: str | None = None
    effective_rank: float = torch.nan
    drift: float = torch.nan
    error_bound: float = torch.nan
    error_estimate: float = torch.nan
    form: Form | None = None


@dataclass(frozen=True, eq=False)
class ClassInformation:
    """What is known of C classes; every tensor is (C,), float64, on the CPU.

    Attributes:
        amount: The information amount, in bits; NaN below 2 instances.
        count: The number of instances, a fraction where some are partly forgotten.
        shrinkage: The shrinkage that was used for each class; None where there is no amount.
        effective_rank: How many directions the embeddings use (Roy and Vetterli 2007); NaN below 2 instances or
            where it was not asked for.
        drift: How far the mean moved since the last `forget`, in the embeddings' units; NaN where unknown.
        skipped: Rows left out since the last `reset` because of a NaN or an infinity.
        error_bound: The amount is at most this many bits off for want of memory: 0 where the class is stored
            exactly, NaN where no bound is known (a sketch with a nonlinear shrinkage) or there is no amount.
        error_estimate: An estimate of the same, not a bound, where no bound is known; else NaN.
        form: How each class is stored: "rows", "scatter", "sketch"; None without instances.
    """

    amount: Tensor
    count: Tensor
    shrinkage: tuple[str | None, ...]
    effective_rank: Tensor
    drift: Tensor
    skipped: int
    error_bound: Tensor
    error_estimate: Tensor
    form: tuple[Form | None, ...]

    @classmethod
    def of(cls, readings: Sequence[Reading], skipped: int) -> Self:
        """Put the readings of classes 0 to C - 1 side by side."""
        names = ("amount", "count", "effective_rank", "drift", "error_bound", "error_estimate")
        columns = {
            name: torch.tensor([getattr(r, name) for r in readings], dtype=torch.float64, device="cpu")
            for name in names
        }
        return cls(
            **columns,
            shrinkage=tuple(r.shrinkage for r in readings),
            form=tuple(r.form for r in readings),
            skipped=skipped,
        )


def read_classes(
    classes: Iterable[tuple[int, Moments, Form]],
    shrinkage: str,
    anchors: Mapping[int, Tensor] | None = None,
    *,
    ranks: bool = True,
) -> Iterator[tuple[int, Reading]]:
    """Read the moments of many classes, those of one size in one call of the linear algebra.

    Small classes go by their Gram matrix on the side of the instances. Without ranks, and with a shrinkage
    that takes no eigenvalues, none are: a Cholesky factor is a tenth of their cost.

    Args:
        classes: number, moments and form of each; they are asked for as they are needed.
        shrinkage: One of `SHRINKAGES`.
        anchors: the mean (p,) that the drift of a class is measured from.
        ranks: whether effective ranks are wanted.

    Yields:
        The number and the reading of each class, in no particular order.

    Raises:
        ArgumentError: if the shrinkage is not legal.

    >>> moments = Moments.of_rows(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
    >>> dict(read_classes([(7, moments, "rows")], "none"))[7].amount
    1.66...
    """
    require_choice("shrinkage", shrinkage, SHRINKAGES)
    waiting: dict[int, list[_Waiting]] = {}
    for number, moments, form in classes:
        anchor = (anchors or {}).get(number)
        drift = torch.nan if anchor is None else float(torch.linalg.vector_norm(moments.mean - anchor))
        known = Reading(count=moments.count, drift=drift, form=form)
        if moments.count < 2:
            yield number, known
        elif isinstance(moments.scatter, Sketch):
            amount, used, bound, estimate = sketched_amount(moments, shrinkage)
            rank = float(effective_rank(spectra(moments).likely)) if ranks else torch.nan
            yield (
                number,
                replace(
                    known,
                    amount=amount,
                    shrinkage=used,
                    effective_rank=rank,
                    error_bound=bound,
                    error_estimate=estimate,
                ),
            )
        else:
            gram = moments.gram()
            size = min(moments.dim, -(-max(len(gram), 1) // _STEP) * _STEP)
            group = waiting.setdefault(size, [])
            group.append(_Waiting(number, moments, gram, known))
            if len(group) * size**2 * gram.itemsize >= _BATCH_BYTES:
                yield from _read(waiting.pop(size), size, shrinkage, ranks)
    for size, group in waiting.items():
        yield from _read(group, size, shrinkage, ranks)


@dataclass(frozen=True, eq=False)
class _Waiting:
    number: int
    moments: Moments
    gram: Tensor
    known: Reading


def _read(group: list[_Waiting], size: int, shrinkage: str, ranks: bool) -> Iterator[tuple[int, Reading]]:
    dim = group[0].moments.dim
    # Zeros beside a Gram matrix add null eigenvalues, of which there are more than enough, and nothing to the
    # volume.
    grams = torch.zeros(len(group), size, size, dtype=torch.float64, device="cpu")
    for place, one in zip(grams, group, strict=True):
        place[: len(one.gram), : len(one.gram)] = one.gram
    values = None
    if ranks or shrinkage not in CHOLESKY_SHRINKAGES:
        values = torch.linalg.eigvalsh(grams)
    amounts = torch.full((len(group),), torch.nan, dtype=torch.float64, device="cpu")
    if shrinkage in CHOLESKY_SHRINKAGES:
        pairs = [weight_and_ridge(one.moments, one.gram, shrinkage) for one in group]
        weights, ridges = torch.tensor(pairs, dtype=torch.float64, device="cpu").T
        amounts = volumes_by_cholesky(grams.mul_(weights[:, None, None]), dim, ridges)
    for i, one in enumerate(group):
        eigenvalues = None if values is None else padded(values[i], dim)
        amount, used = float(amounts[i]), shrinkage
        if isnan(amount):  # nonlinear, or the factorisation failed
            eigenvalues = one.moments.eigenvalues if eigenvalues is None else eigenvalues
            amount, used = amount_of_spectrum(one.moments, eigenvalues, shrinkage)
        rank = float(effective_rank(eigenvalues)) if ranks and eigenvalues is not None else torch.nan
        yield (
            one.number,
            replace(one.known, amount=amount, shrinkage=used, effective_rank=rank, error_bound=0.0),
        )
