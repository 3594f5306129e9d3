"""How far a meter's amounts are from those of the rows themselves, and whether the bound held."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.exact import exact_amount
from bisector.data.tables import StoredEmbeddings
from bisector.information.class_information import ClassInformation

MOST_BYTES = 2**30  # of the rows kept for checking
ROUNDING = 1e-6  # relative error that every form is allowed

Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """One class, measured twice.

    Args:
        number: of the class.
        form: how the meter held it.
        count: its instances.
        amount: bits, of the meter.
        exact: bits, from its rows in float64.
        bound: bits by which the meter says it may be wrong at most; NaN where it knows none.
        estimate: bits by which the meter thinks it is wrong; NaN where it has no estimate.
    """

    number: int
    form: str
    count: int
    amount: float
    exact: float
    bound: float
    estimate: float

    @property
    def error(self) -> float:
        """Bits between the two."""
        return abs(self.amount - self.exact)

    @property
    def relative(self) -> float:
        """The error as a share of the exact amount."""
        return self.error / abs(self.exact) if self.exact else self.error

    @property
    def stated(self) -> float:
        """The bound, or where there is none the estimate."""
        return self.estimate if isnan(self.bound) else self.bound

    @property
    def held(self) -> bool:
        """Whether the error is within what was stated, and the rounding that every form is allowed."""
        return self.error <= self.stated + ROUNDING * abs(self.exact)


def check_amounts(
    stored: StoredEmbeddings, informations: Sequence[ClassInformation], shrinkages: Sequence[str], most: int
) -> list[list[Check]]:
    """Return the checked classes for each shrinkage: up to `most` of every form, from the smallest to the largest.

    Args:
        stored: the table; it is read again.
        informations: what the meter said, with each shrinkage.
        shrinkages: their names.
        most: classes of each form.
    """
    chosen = choose(informations[0], stored.dim, most)
    rows = rows_of(stored, chosen)
    return [
        [
            Check(
                number=number,
                form=str(information.form[number]),
                count=len(rows[number]),
                amount=float(information.amount[number]),
                exact=exact_amount(rows[number], shrinkage),
                bound=float(information.error_bound[number]),
                estimate=float(information.error_estimate[number]),
            )
            for number in chosen
        ]
        for information, shrinkage in zip(informations, shrinkages, strict=True)
    ]


def choose(information: ClassInformation, dim: int, most: int) -> list[int]:
    """Return classes of every form, evenly by rank of size, so many that their rows can be kept."""
    forms: dict[str, list[int]] = {}
    for number in information.count.argsort(stable=True).tolist():
        if information.count[number] >= 2:
            forms.setdefault(str(information.form[number]), []).append(number)
    chosen: list[int] = []
    for numbers in forms.values():
        left = MOST_BYTES // len(forms)
        for place in np.linspace(0, len(numbers) - 1, min(most, len(numbers))).astype(int):
            size = 4 * dim * int(information.count[numbers[place]])
            if size <= left:
                left -= size
                chosen.append(numbers[place])
    return chosen


def rows_of(stored: StoredEmbeddings, classes: Sequence[int]) -> dict[int, Vectors]:
    """Return the rows of these classes: (m, p) float32 each."""
    found: dict[int, list[Vectors]] = {number: [] for number in classes}
    wanted = torch.tensor(sorted(found), dtype=torch.long).numpy()
    for chunk in stored.chunks(stored.parts):
        places = np.flatnonzero(np.isin(chunk.labels, wanted))
        for number in np.unique(chunk.labels[places]).tolist():
            found[number].append(chunk.embeddings[places[chunk.labels[places] == number]])
    return {number: np.concatenate(parts) for number, parts in found.items()}
