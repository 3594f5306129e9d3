"""How much memory the engine may take: one frozen object, the one dial."""

import math
import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from bisector.errors import require, require_integer

# Below this a block of classes and rows is too small to be worth a matrix product.
LEAST_BYTES = 1 << 20


@dataclass(frozen=True)
class MemoryBudget:
    """The memory that a margin loss may take beside its inputs, its gradients and a few numbers a row and a class.

    Args:
        chunk_bytes: bytes of scratch for the chunk of rows at hand: its scores, the block of classes that is being
            worked on. At least 1 MiB. None takes 128 MiB on the CPU and 1 GiB elsewhere. Where a chunk of rows
            does not fit with the scores of all classes, these are computed twice instead of kept, which costs
            a third more products. (Beyond the budget: one row and one class must fit, however many
            dimensions they have.) On the CPU it is kept for the thread's next loss: `bisector.release_workspace`.
        accumulation: the dtype in which the gradient of the weights is summed over chunks of rows: `torch.float32`
            or `torch.float64`; the gradient has it until it is handed over in the weights' own. On CUDA the
            products of half precision are summed in float32 within, on the CPU rounded to half first.

    Raises:
        ArgumentError: too few bytes, or a dtype that is neither.

    >>> MemoryBudget(chunk_bytes=64 << 20)
    MemoryBudget(chunk_bytes=67108864, accumulation=torch.float32)
    """

    chunk_bytes: int | None = None
    accumulation: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.chunk_bytes is not None:
            require_integer("chunk_bytes", self.chunk_bytes, least=LEAST_BYTES)
        legal = self.accumulation in {torch.float32, torch.float64}
        require(legal, "accumulation", self.accumulation, "torch.float32 or torch.float64")

    def bytes_on(self, device: torch.device) -> int:
        """Return the bytes of scratch on a device."""
        if self.chunk_bytes is not None:
            return self.chunk_bytes
        return 128 << 20 if device.type == "cpu" else 1 << 30


class Workspace(threading.local):
    """The scratch of the engine on the CPU, kept from call to call, one a thread.

    A fresh allocation of many megabytes is zeroed by the operating system page by page, which took a tenth of a
    training step at 100,000 classes. On other devices torch keeps freed memory itself.
    """

    def __init__(self) -> None:
        self.kept: Tensor | None = None
        self.taken = False

    def take(self, size: int, device: torch.device) -> "Scratch":
        """Return scratch of so many bytes; to be given back when done."""
        if device.type != "cpu" or self.taken:  # taken: a user's margin computes a loss of its own
            return Scratch(torch.empty(size, dtype=torch.uint8, device=device), None)
        if self.kept is None or self.kept.numel() < size:
            self.kept = None  # before the new one is made, not after
            self.kept = torch.empty(size, dtype=torch.uint8, device=device)
            if type(self.kept) is not Tensor:  # a stand-in of a mode that will be over
                fake, self.kept = self.kept, None
                return Scratch(fake, None)
        self.taken = True
        return Scratch(self.kept, self)


class Scratch:
    """Bytes to be cut into tensors, front to back."""

    def __init__(self, memory: Tensor, owner: Workspace | None) -> None:
        self.memory, self.owner, self.used = memory, owner, 0

    def tensor(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Return the next tensor, uninitialised."""
        start, size = self.used, math.prod(shape) * dtype.itemsize
        self.used = start + aligned(size)
        return self.memory[start : start + size].view(dtype).view(shape)

    def give_back(self) -> None:
        """Let the next call have the memory."""
        if self.owner is not None:
            self.owner.taken = False


def aligned(size: int) -> int:
    """Return the bytes that a tensor of this size takes up in scratch."""
    return -(-size // 64) * 64


WORKSPACE = Workspace()


def release_workspace() -> None:
    """Free the scratch that the engine keeps on the CPU for this thread's next loss: at most a budget's bytes."""
    WORKSPACE.kept = None
