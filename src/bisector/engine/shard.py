"""Which of the classes this process holds; here, all of them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """A run of classes that this process holds, and how numbers are put together with the other processes'.

    This one is for a process that holds all classes; `bisector.engine.processes` has the one for many.

    Attributes:
        first: the class of the first row of this process's weights.
        classes: C, of all processes.
        widest: the most classes that any process holds; all must cut the rows into the same chunks.
    """

    first: int
    classes: int
    widest: int

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, the same on all."""
        return values

    def max(self, values: Tensor) -> Tensor:
        """Return the maximum over the processes, the same on all."""
        return values
