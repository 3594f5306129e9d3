"""Post-hoc adjustment: move the boundaries of a trained model from its stored scores, and embeddings.

>>> import torch
>>> scores = torch.tensor([[2.0, 1.5], [0.0, 3.0]])  # logits of a model that saw class 0 nine times as often
>>> adjustment = adjust(scores, method="prior", class_counts=[90, 10])
>>> adjustment.predict(scores)
tensor([1, 1])
"""

from bisector.posthoc.adjustment import Adjustment, BaseAdjustment
from bisector.posthoc.detection_results import adjust_results
from bisector.posthoc.detections import adjust_detr, adjust_scores, level_offsets, offsets_from_counts
from bisector.posthoc.dispatch import CONTROLS, METHODS, adjust
from bisector.posthoc.fit import cross_validated_predictions, cross_validated_scores
from bisector.posthoc.geometry import GeometryAdjustment
from bisector.posthoc.geometry_fit import embedding_scale, fit_geometry
from bisector.posthoc.geometry_table import geometry_of_table
from bisector.posthoc.linear import LinearAdjustment, linear_discriminant, nearest_mean, refit, tau_norm
from bisector.posthoc.stored import load_adjustment

__all__ = [
    "CONTROLS",
    "METHODS",
    "Adjustment",
    "BaseAdjustment",
    "GeometryAdjustment",
    "LinearAdjustment",
    "adjust",
    "adjust_detr",
    "adjust_results",
    "adjust_scores",
    "cross_validated_predictions",
    "cross_validated_scores",
    "embedding_scale",
    "fit_geometry",
    "geometry_of_table",
    "level_offsets",
    "linear_discriminant",
    "load_adjustment",
    "nearest_mean",
    "offsets_from_counts",
    "refit",
    "tau_norm",
]
