"""The device that computes, asked before anything is loaded whether it is there."""

import torch

from bisector.errors import ArgumentError


def require_device(device: torch.device) -> torch.device:
    """Return the device if PyTorch can compute on it.

    Raises:
        ArgumentError: if it cannot.

    >>> require_device(torch.device("cpu"))
    device(type='cpu')
    >>> require_device(torch.device("meta"))
    Traceback (most recent call last):
    bisector.errors.ArgumentError: device: got meta, on which PyTorch cannot compute here; expected cpu...
    """
    try:
        usable = torch.ones(1, device=device).item() == 1
    except (RuntimeError, AssertionError, NotImplementedError):  # which of them depends on the device
        usable = False
    if not usable:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise ArgumentError(
            f"device: got {device}, on which PyTorch cannot compute here; expected {' or '.join(there)}"
        )
    return device
