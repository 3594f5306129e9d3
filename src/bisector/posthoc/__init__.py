"""Post-hoc adjustment: move the boundaries of a trained model from its stored scores alone.

>>> import torch
>>> scores = torch.tensor([[2.0, 1.5], [0.0, 3.0]])  # logits of a model that saw class 0 nine times as often
>>> adjustment = adjust(scores, method="prior", class_counts=[90, 10])
>>> adjustment.predict(scores)
tensor([1, 1])
"""

from bisector.posthoc.adjustment import Adjustment
from bisector.posthoc.detection_results import adjust_results
from bisector.posthoc.detections import adjust_detr, adjust_scores, level_offsets, offsets_from_counts
from bisector.posthoc.dispatch import METHODS, adjust
from bisector.posthoc.fit import cross_validated_predictions, cross_validated_scores
from bisector.posthoc.geometry import GeometryAdjustment, fit_geometry

__all__ = [
    "METHODS",
    "Adjustment",
    "GeometryAdjustment",
    "adjust",
    "adjust_detr",
    "adjust_results",
    "adjust_scores",
    "cross_validated_predictions",
    "cross_validated_scores",
    "fit_geometry",
    "level_offsets",
    "offsets_from_counts",
]
