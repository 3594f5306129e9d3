"""Random numbers that are a function of (seed, epoch, index): no state, so nothing is lost by a kill."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio


def keyed_uniform(
    seed: int,
    epoch: int,
    indices: Tensor,  # (B,)
    draws: int,
    purpose: str = "",
) -> Tensor:  # (B, draws)
    """Uniform numbers in [0, 1), the same for the same (seed, epoch, index) whatever the batch, worker or process.

    Each number is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) over the four integers that name
    it, folded in one after the other; the upper 24 bits make a float32.

    Args:
        seed: of the training.
        epoch: from 0.
        indices: of the examples.
        draws: how many numbers each example needs.
        purpose: a word of at most 8 letters; other purposes get other numbers.

    >>> once = keyed_uniform(0, 3, torch.tensor([5, 7]), draws=2)
    >>> bool((keyed_uniform(0, 3, torch.tensor([7]), draws=2) == once[1]).all())
    True
    """
    start = _mixed(_mixed(np.uint64(seed)) ^ np.uint64(epoch))
    if purpose:
        start = _mixed(start ^ np.uint64(int.from_bytes(purpose.encode()[:8], "little")))
    key = np.full((len(indices), draws), start)
    key = _mixed(key ^ indices.numpy().astype(np.uint64)[:, None])
    key = _mixed(key ^ np.arange(draws, dtype=np.uint64))
    return torch.from_numpy((key >> np.uint64(40)).astype(np.float32) / np.float32(2**24))


def keyed_permutation(seed: int, epoch: int, size: int) -> Tensor:  # (size,)
    """An order of `size` examples that is a function of the seed and the epoch alone.

    >>> keyed_permutation(0, 1, 4).sort().values
    tensor([0, 1, 2, 3])
    """
    return torch.randperm(size, generator=torch.Generator().manual_seed(keyed_seed(seed, epoch)))


def keyed_seed(*key: int) -> int:
    """A seed for a generator that is a function of some integers of at least 0, and of their order.

    >>> keyed_seed(0, 1) == keyed_seed(1, 0)
    False
    """
    mixed = np.uint64(0)
    for part in key:
        mixed = _mixed(mixed ^ np.uint64(part))
    return int(mixed) >> 1  # torch takes 63 bits


def _mixed(key: Any) -> Any:  # np.uint64, or an array of them
    with np.errstate(over="ignore"):
        key = key + np.uint64(_GOLDEN)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return key ^ (key >> np.uint64(31))
