"""What measuring every class costs in memory, by formulas."""

from typing import NamedTuple

from bisector.errors import require


class MemoryNeed(NamedTuple):
    """Bytes that the three ways of measuring every class once an epoch take."""

    all_embeddings: int
    local_covariances: int
    running_merge: int


def memory_need(
    instances: int,
    dim: int,
    num_classes: int,
    queue: int,
    *,
    bytes_per_number: int = 4,
) -> MemoryNeed:
    """Memory of three ways to have every class's covariance at the end of an epoch, in bytes.

    With N instances, p dimensions, C classes and a queue of d rows: all embeddings `N p`; the paper's local
    covariances of every flush `d p + C (floor(N/d) + 1) p^2`; a running merge with a full covariance for
    every class `d p + C p^2`. `InformationMeter` keeps of a class its n rows at 4 bytes a
    number while n < p, then about `p (p + 128) / 2` numbers at 8 bytes.

    Args:
        instances: N, at least 1.
        dim: p, at least 1.
        num_classes: C, at least 1.
        queue: d, at least 1.
        bytes_per_number: 4 for float32.

    Raises:
        ArgumentError: if a number is below 1.

    Source: Ma, Dai and Chen, ICLR 2025.

    >>> need = memory_need(instances=55_800, dim=128, num_classes=20, queue=11_517)
    >>> [f"{size / 2**20:.2f} MiB" for size in need]
    ['27.25 MiB', '11.87 MiB', '6.87 MiB']
    """
    sizes = {"instances": instances, "dim": dim, "num_classes": num_classes, "queue": queue}
    for name, size in {**sizes, "bytes_per_number": bytes_per_number}.items():
        require(size >= 1, name, size, "at least 1")
    covariances = num_classes * dim**2
    numbers = (
        instances * dim,
        queue * dim + (instances // queue + 1) * covariances,
        queue * dim + covariances,
    )
    return MemoryNeed(*(bytes_per_number * n for n in numbers))
