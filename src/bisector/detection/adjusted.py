"""A detector whose scores carry class offsets at inference."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bisector.posthoc import Adjustment
from bisector.posthoc.detections import adjust_scores


@contextmanager
def adjusted_scores(network: Any, adjustment: Adjustment) -> Iterator[None]:
    """Let a torchvision R-CNN score with class offsets, for as long as the context lasts.

    Among the classes the scores of a box move as `bisector.posthoc.detections.adjust_scores` says; what they have
    together, and the background's, stays. It is done before thresholds and suppression, as in a model that was
    trained so.

    Args:
        network: in evaluation mode.
        adjustment: of the C classes without background.

    Raises:
        ArgumentError: at the first picture, if the number of classes does not fit.
    """

    def move(module: object, inputs: object, outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        logits, deltas = outputs
        scores = adjust_scores(logits.float().softmax(-1), adjustment, background=0)
        # Their softmax is they themselves.
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log(), deltas

    handle = network.roi_heads.box_predictor.register_forward_hook(move)
    try:
        yield
    finally:
        handle.remove()
