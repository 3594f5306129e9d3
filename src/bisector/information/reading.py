"""What a meter says of every class."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from bisector.errors import require_choice
from bisector.information.effective_rank import effective_rank
from bisector.information.gram import Gram, exact_amounts
from bisector.information.holding import Form
from bisector.information.sketched import sketched_amount, spectra
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES
from bisector.statistics.sketch import Sketch


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
    classes: Iterable[tuple[int, Gram | Moments, Form]],
    shrinkage: str,
    anchors: Mapping[int, Tensor] | None = None,
    *,
    ranks: bool = True,
) -> Iterator[tuple[int, Reading]]:
    """Read many classes, those of one size in one call of the linear algebra.

    Args:
        classes: number, moments (or what exact amounts ask of them) and form of each; asked for as they are needed.
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
    others: list[tuple[int, Reading]] = []  # that need no linear algebra, or one of their own

    def exact() -> Iterator[tuple[tuple[int, Reading], Gram]]:
        for number, held, form in classes:
            anchor = (anchors or {}).get(number)
            drift = torch.nan if anchor is None else float(torch.linalg.vector_norm(held.mean - anchor))
            known = Reading(count=held.count, drift=drift, form=form)
            if held.count < 2:
                others.append((number, known))
            elif isinstance(held, Gram):
                yield (number, known), held
            elif isinstance(held.scatter, Sketch):
                others.append((number, _of_sketch(held, known, shrinkage, ranks)))
            else:
                yield (number, known), Gram.of_moments(held)

    for (number, known), (amount, used, rank) in exact_amounts(exact(), shrinkage, ranks=ranks):
        yield (
            number,
            replace(known, amount=amount, shrinkage=used, effective_rank=rank, error_bound=0.0),
        )
    yield from others


def _of_sketch(moments: Moments, known: Reading, shrinkage: str, ranks: bool) -> Reading:
    amount, used, bound, estimate = sketched_amount(moments, shrinkage)
    rank = float(effective_rank(spectra(moments).likely)) if ranks else torch.nan
    return replace(
        known,
        amount=amount,
        shrinkage=used,
        effective_rank=rank,
        error_bound=bound,
        error_estimate=estimate,
    )
