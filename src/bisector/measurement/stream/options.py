"""What is asked of a streamed measurement."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bisector.errors import ArgumentError, require, require_choice, require_integer
from bisector.information.rows import EMBEDDING_SCALES
from bisector.measurement.classes import DRAWN_ROW, affordable_equal_count
from bisector.measurement.stream.tree import LEAF_ROWS
from bisector.statistics.shrinkage import SHRINKAGES

if TYPE_CHECKING:
    from bisector.data.tables import StoredEmbeddings


@dataclass(frozen=True)
class Options:
    """How amounts are measured. All of it changes the numbers, if only in their last bits.

    Args:
        shrinkage: one of `bisector.statistics.shrinkage.SHRINKAGES`.
        embeddings: `"raw"`, as they are, or `"unit"`, every row at length `sqrt(D)`.
        equal_count: rows of each class that amounts are measured on a second time, at least 2, or 0 for no second
            time; None for `bisector.measurement.classes.affordable_equal_count`.
        memory_budget: bytes that what is held of all classes may take, with the rows drawn for `equal_count`; None
            for as much as the exact forms need.
        seed: of the rows that are drawn for `equal_count`.
        leaf_rows: rows that are measured before what they gave is written, at least.

    Raises:
        ArgumentError: if an argument is not as described.

    >>> Options(equal_count=1)
    Traceback (most recent call last):
    bisector.errors.ArgumentError: equal_count: got 1; expected None, 0 or at least 2
    """

    shrinkage: str = "quadratic-inverse"
    embeddings: str = "unit"
    equal_count: int | None = None
    memory_budget: int | None = None
    seed: int = 0
    leaf_rows: int = LEAF_ROWS

    def __post_init__(self) -> None:
        require_choice("shrinkage", self.shrinkage, SHRINKAGES)
        require_choice("embeddings", self.embeddings, EMBEDDING_SCALES)
        count, budget = self.equal_count, self.memory_budget
        require(count is None or count == 0 or count >= 2, "equal_count", count, "None, 0 or at least 2")
        require(budget is None or budget > 0, "memory_budget", budget, "None or bytes above 0")
        require_integer("seed", self.seed, least=0)
        require_integer("leaf_rows", self.leaf_rows, least=1)

    def resolved(self, stored: "StoredEmbeddings") -> "Options":
        """The options with a number for `equal_count`: the data decide on it, so every call finds the same.

        Raises:
            ArgumentError: if the rows of the `equal_count` that was asked for take half of the memory budget.
        """
        if self.equal_count is not None:
            self._require_room(stored)
            return self
        counts, dim = stored.counts, stored.dim
        chosen = affordable_equal_count(torch.as_tensor(counts), dim, self.memory_budget)
        return replace(self, equal_count=chosen)

    def drawn_bytes(self, stored: "StoredEmbeddings") -> int:
        """What the rows drawn for `equal_count` may take: so many of every class, or all of a smaller one."""
        return _drawn_bytes(stored, self.equal_count or 0)

    def _require_room(self, stored: "StoredEmbeddings") -> None:
        count, budget = self.equal_count or 0, self.memory_budget
        if budget is None or self.drawn_bytes(stored) <= budget // 2:
            return
        low, high = 0, count  # the first fits, the second does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _drawn_bytes(stored, middle) <= budget // 2 else (low, middle)
        most = f"at most {low}" if low >= 2 else "0, or a larger budget"
        raise ArgumentError(
            f"equal_count: got {count}, whose rows take {self.drawn_bytes(stored):,} of the {budget:,} bytes of "
            f"the memory budget; expected {most}: half of it"
        )


def _drawn_bytes(stored: "StoredEmbeddings", count: int) -> int:
    return (4 * stored.dim + DRAWN_ROW) * int(stored.counts.clip(max=count).sum())
