"""What a meter says of every class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from bisector.information.amount import amount_of_moments
from bisector.information.effective_rank import effective_rank
from bisector.statistics.moments import Moments


@dataclass(frozen=True)
class Reading:
    """What is known of one class; as it stands, of a class without instances."""

    amount: float = torch.nan
    count: float = 0.0
    shrinkage: str | None = None
    effective_rank: float = torch.nan
    drift: float = torch.nan

    @classmethod
    def of(cls, moments: Moments, shrinkage: str, anchor: Tensor | None) -> Self:
        """Read a class's moments; `anchor` is the mean (p,) that drift is measured from."""
        drift = torch.nan if anchor is None else torch.linalg.vector_norm(moments.mean - anchor).item()
        if moments.count < 2:
            return cls(count=moments.count, drift=drift)
        amount, used = amount_of_moments(moments, shrinkage)
        rank = effective_rank(moments.eigenvalues).item()
        return cls(amount=amount, count=moments.count, shrinkage=used, effective_rank=rank, drift=drift)


@dataclass(frozen=True, eq=False)
class ClassInformation:
    """What is known of C classes; every tensor is (C,), float64, on the CPU.

    Attributes:
        amount: The information amount, in bits; NaN below 2 instances.
        count: The number of instances, a fraction where some are partly forgotten.
        shrinkage: The shrinkage that was used for each class; None where there is no amount.
        effective_rank: How many directions the embeddings use (Roy and Vetterli 2007); NaN below 2.
        drift: How far the mean moved since the last `forget`, in the embeddings' units; NaN where unknown.
        skipped: Rows left out since the last `reset` because of a NaN or an infinity.
    """

    amount: Tensor
    count: Tensor
    shrinkage: tuple[str | None, ...]
    effective_rank: Tensor
    drift: Tensor
    skipped: int

    @classmethod
    def of(cls, readings: Sequence[Reading], skipped: int) -> Self:
        """Put the readings of classes 0 to C - 1 side by side."""
        amount, count, rank, drift = (
            torch.tensor([getattr(r, name) for r in readings], dtype=torch.float64, device="cpu")
            for name in ("amount", "count", "effective_rank", "drift")
        )
        return cls(
            amount=amount,
            count=count,
            shrinkage=tuple(r.shrinkage for r in readings),
            effective_rank=rank,
            drift=drift,
            skipped=skipped,
        )
