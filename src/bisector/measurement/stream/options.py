"""What is asked of a streamed measurement."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bisector.errors import require, require_choice, require_integer
from bisector.information.rows import EMBEDDING_SCALES
from bisector.measurement.classes import FEWEST, choose_equal_count
from bisector.measurement.stream.tree import LEAF_ROWS
from bisector.statistics.shrinkage import SHRINKAGES

if TYPE_CHECKING:
    from bisector.data.stored import StoredEmbeddings

_LEAST = 2**26
"""Bytes that the rows drawn may take where their number was left to us and there is no budget."""


@dataclass(frozen=True)
class Options:
    """How amounts are measured. All of it changes the numbers, if only in their last bits.

    Args:
        shrinkage: one of `bisector.statistics.shrinkage.SHRINKAGES`.
        embeddings: `"raw"`, as they are, or `"unit"`, every row at length `sqrt(D)`.
        equal_count: rows of each class that amounts are measured on a second time, at least 2, or 0 for no second
            time; None for `bisector.measurement.classes.choose_equal_count`, as far as these rows take a quarter of
            what the classes take, or of the memory budget.
        memory_budget: bytes that what is held of all classes may take; None for as much as the exact forms need.
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
        """The options with a number for `equal_count`: the data decide on it, so every call finds the same."""
        if self.equal_count is not None:
            return self
        counts, dim = stored.counts, stored.dim
        held = 4 * dim * int(counts.clip(max=dim).sum())  # about what the exact forms take
        room = max(_LEAST, held // 4) if self.memory_budget is None else self.memory_budget // 4
        most = room // (4 * dim * max(1, int((counts > 0).sum())))
        chosen = min(choose_equal_count(torch.as_tensor(counts), dim), most)
        return replace(self, equal_count=chosen if chosen >= FEWEST else 0)
