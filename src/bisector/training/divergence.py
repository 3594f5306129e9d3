"""What is said of a training whose numbers are no longer finite."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from bisector.engine.sharded import is_sharded
from bisector.errors import ArgumentError


class DivergedError(ArgumentError):
    """A loss, a gradient, a weight or an embedding is not finite: nothing more can be learned."""


def diverged(model: Any, what: str, got: str) -> DivergedError:
    """Return the error that says what is not finite, and what to try."""
    rate = float(model.learning_rate)
    return DivergedError(
        f"{what}: got {got}: the training diverged at learning rate {rate:g}; expected finite numbers: a lower "
        f"learning rate (try {min(rate / 10, 1e-3):g}) or clipped gradients may keep them so, and precision 32-true"
    )


def require_finite(model: Any, what: str, tensors: Iterable[Tensor]) -> None:
    """Raise `DivergedError` where a number is not finite; of a sharded tensor this process's part counts."""
    for tensor in tensors:
        own = (tensor.to_local() if is_sharded(tensor) else tensor).detach()
        # The ends alone: a mask of millions of classes would take memory.
        if own.is_floating_point() and own.numel() and not all(end.isfinite() for end in own.aminmax()):
            raise diverged(model, what, "NaN or infinity")
