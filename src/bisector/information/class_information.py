"""What a meter says of every class."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

import torch
from torch import Tensor

from bisector.information.amount import class_amounts
from bisector.information.class_state import Form
from bisector.statistics.moments import Moments
from bisector.statistics.shrinkage import SHRINKAGES

# The last two of a class's numbers are places in here.
_WORDS = (None, *SHRINKAGES, "quadratic-inverse+floor", *get_args(Form))

UNSEEN = (torch.nan, 0.0, torch.nan, torch.nan, torch.nan, torch.nan, 0, 0)
"""The numbers of a class without instances."""


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
        """Return what the numbers of classes 0 to C - 1, as `measure_classes` gives them, mean."""
        amount, count, effective_rank, drift, error_bound, error_estimate, *codes = numbers.unbind(dim=1)
        words: list[Any] = [tuple(_WORDS[code] for code in column.long().tolist()) for column in codes]
        return cls(
            amount, count, words[0], effective_rank, drift, skipped, error_bound, error_estimate, words[1]
        )


def measure_classes(
    classes: Iterable[tuple[int, Moments, Form]],
    shrinkage: str,
    anchors: Mapping[int, Tensor],
    *,
    ranks: bool = True,
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Yield each class with its numbers, of which `ClassInformation.of` is made, in no particular order.

    Anchors are the means (p,) that drift is measured from. Classes are asked for as they are needed.
    """
    few: list[tuple[int, tuple[float, ...]]] = []  # of too few instances for an amount

    def measurable() -> Iterator[tuple[tuple[int, float, float, int], Moments]]:
        for label, moments, form in classes:
            anchor = anchors.get(label)
            drift = torch.nan if anchor is None else float(torch.linalg.vector_norm(moments.mean - anchor))
            count, code = moments.count, _WORDS.index(form)
            if count >= 2:
                yield (label, count, drift, code), moments
            else:
                few.append((label, (torch.nan, count, torch.nan, drift, torch.nan, torch.nan, 0, code)))

    for (label, count, drift, code), amount in class_amounts(measurable(), shrinkage, ranks=ranks):
        bits, used, rank, bound, estimate = amount
        yield label, (bits, count, rank, drift, bound, estimate, _WORDS.index(used), code)
    yield from few
