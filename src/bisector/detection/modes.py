"""Ask a network in evaluation mode, and leave every part in the mode that it had."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each part is as it was, one that was frozen too.

    >>> frozen = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout()).train()
    >>> _ = frozen[0].eval()
    >>> with evaluating(frozen):
    ...     pass
    >>> [part.training for part in frozen]
    [False, True]
    """
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
