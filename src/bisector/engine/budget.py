"""How much memory the engine may take, how a loss is cut to fit into it, and the scratch that is kept."""

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


# Elements of a block. On the CPU smaller ones pay for the calls and the products' starts, larger ones leave the
# caches; 2^19 to 2^21 were alike. Elsewhere enough to fill the device.
CPU_BLOCK = 1 << 19
DEVICE_BLOCK = 1 << 26

# Rows of a chunk. Each chunk reads all the weights anew: more rows than the most gain little, and for fewer than
# the fewest it is better to compute the scores twice than to keep them. On the CPU half of the most are enough
# where the scores would be large.
FEWEST_ROWS = 64
MOST_ROWS_CPU = 512
MOST_ROWS_DEVICE = 8192
LARGE_ON_CPU = 32 << 20


@dataclass(frozen=True)
class Plan:
    """The cut: `rows` a chunk, `classes` a block, and whether a chunk keeps the scores of all its blocks."""

    rows: int
    classes: int
    keep: bool


def plan(
    rows: int,
    classes: int,
    row_bytes: int,
    class_bytes: int,
    pair_bytes: int,
    kept_bytes: int,
    budget: int,
    on_cpu: bool,
) -> Plan:
    """Cut so that the scratch of one chunk fits the budget, with blocks and chunks of even size.

    Args:
        rows: B.
        classes: C.
        row_bytes: scratch for each row of a chunk.
        class_bytes: scratch for each class of a block.
        pair_bytes: scratch for each pair of a block.
        kept_bytes: bytes of each score that is kept; 0 where none is to be.
        budget: bytes.
        on_cpu: whether small blocks are the fast ones.

    >>> plan(512, 100_000, 1024, 1024, 0, 4, 128 << 20, on_cpu=True)
    Plan(rows=256, classes=2041, keep=True)
    >>> plan(1024, 1_000_000, 4096, 4096, 4, 0, 128 << 20, on_cpu=True)
    Plan(rows=512, classes=1024, keep=False)
    """
    most = MOST_ROWS_CPU if on_cpu else MOST_ROWS_DEVICE
    pairs = CPU_BLOCK if on_cpu else DEVICE_BLOCK

    def fitting(chunk: int, kept: int) -> int:
        """Return how many classes fit beside that many rows, 0 or fewer if none."""
        left = budget - chunk * row_bytes - chunk * classes * kept
        return min(classes, left // (class_bytes + chunk * pair_bytes))

    def block(chunk: int, kept: int) -> int:
        """Return the size of the blocks: neither more scores nor more weights than are fast."""
        fast = min(pairs // chunk, 16 * pairs // class_bytes)
        return _even(max(classes, 1), max(1, min(fitting(chunk, kept), fast)))

    enough = max(1, min(classes, 256, budget // (4 * class_bytes)))
    large = on_cpu and most * classes * kept_bytes > LARGE_ON_CPU
    chunk = _even(rows, most // 2 if large else most)
    while kept_bytes and chunk >= min(rows, FEWEST_ROWS):
        if fitting(chunk, kept_bytes) >= enough:
            return Plan(chunk, block(chunk, kept_bytes), keep=True)
        chunk = _even(rows, chunk // 2) if chunk > 1 else 0
    chunk = _even(rows, most)
    while chunk > 1 and fitting(chunk, 0) < enough:
        chunk = _even(rows, chunk // 2)
    return Plan(chunk, block(chunk, 0), keep=False)


def _even(whole: int, most: int) -> int:
    """Return the size of equal parts of at most `most`."""
    return math.ceil(whole / math.ceil(whole / most))
