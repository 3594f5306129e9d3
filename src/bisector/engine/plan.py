"""How a loss is cut into chunks of rows and blocks of classes so that it fits its budget."""

import math
from dataclasses import dataclass

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
