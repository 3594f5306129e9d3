"""What a meter says of every class."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Self, cast, get_args

import torch
from torch import Tensor

from bisector.information.amount import class_amounts
from bisector.information.class_state import Form
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES

_WORDS = (None, *SHRINKAGES, "quadratic-inverse+floor", *get_args(Form))


@dataclass(frozen=True)
class OneClass:
    """What is known of one class; as it stands, of a class without instances."""

    amount: float = torch.nan
    count: float = 0.0
    effective_rank: float = torch.nan
    drift: float = torch.nan
    error_bound: float = torch.nan
    error_estimate: float = torch.nan
    shrinkage: str | None = None
    form: Form | None = None


_NAMES = tuple(field.name for field in fields(OneClass))


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
    def of(
        cls,
        numbers: Tensor,  # (C, 8) float64
        skipped: int,
    ) -> Self:
        """Return what is known of classes 0 to C - 1, from their rows of `as_numbers`."""
        known = dict(zip(_NAMES, numbers.unbind(dim=1), strict=True))
        shrinkage, form = (
            tuple(_WORDS[code] for code in known.pop(name).long().tolist()) for name in ("shrinkage", "form")
        )
        return cls(**known, shrinkage=shrinkage, form=cast(tuple[Form | None, ...], form), skipped=skipped)

    def numbers(self) -> Tensor:
        """Return what `of` takes, (C, 8)."""
        columns = [getattr(self, name) for name in _NAMES]
        coded = ([_WORDS.index(word) for word in column] for column in columns[6:])
        codes = [torch.tensor(column, dtype=torch.float64, device="cpu") for column in coded]
        return torch.stack([*columns[:6], *codes], dim=1)


def as_numbers(classes: Iterable[OneClass]) -> Tensor:
    """Return a row of numbers for each class, its words by their places: (classes, 8) float64."""
    values = (list(vars(one).values()) for one in classes)
    rows = [[*row[:6], *map(_WORDS.index, row[6:])] for row in values]
    return torch.tensor(rows, dtype=torch.float64, device="cpu").view(-1, len(_NAMES))


def measure_classes(
    classes: Iterable[tuple[int, Moments, Form]],
    shrinkage: str,
    anchors: Mapping[int, Tensor],
    *,
    ranks: bool = True,
) -> Iterator[tuple[int, OneClass]]:
    """Yield what is known of many classes, in no particular order.

    Args:
        classes: number, moments and form of each; asked for as they are needed.
        shrinkage: One of `SHRINKAGES`.
        anchors: the mean (p,) that the drift of a class is measured from.
        ranks: whether effective ranks are wanted.

    >>> moments = Moments.of_rows(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
    >>> dict(measure_classes([(7, moments, "rows")], "none", {}))[7].amount
    1.66...
    """
    others: list[tuple[int, OneClass]] = []  # of too few instances for an amount

    def measurable() -> Iterator[tuple[tuple[int, OneClass], Moments]]:
        for number, moments, form in classes:
            anchor = anchors.get(number)
            drift = torch.nan if anchor is None else float(torch.linalg.vector_norm(moments.mean - anchor))
            known = OneClass(count=moments.count, drift=drift, form=form)
            if moments.count >= 2:
                yield (number, known), moments
            else:
                others.append((number, known))

    for (number, known), found in class_amounts(measurable(), shrinkage, ranks=ranks):
        bits, used, rank, bound, estimate = found
        yield (
            number,
            replace(
                known,
                amount=bits,
                shrinkage=used,
                effective_rank=rank,
                error_bound=bound,
                error_estimate=estimate,
            ),
        )
    yield from others
